package ops

import (
	"slices"
	"time"

	"bundlefs/internal/deploy"
)

// Host is where a step runs.
type Host string

// The hosts.
const (
	Local  Host = deploy.Local  // the workstation
	Remote Host = deploy.Remote // the node
)

// Step is a step whose arguments were found right; Parse makes it.
type Step struct {
	List string // the job list's name
	Name string
	Host Host
	Op   string
	Args []string // as written, after substitution
	File string   // where it was written
	Line int

	Timeout time.Duration // 0: none
	OKCodes []int         // exit codes that are OK; never empty

	op operation
}

// byAgent tells whether it is the agent that does the step.
func (s *Step) byAgent() bool {
	return s.Host == Remote && !slices.Contains([]string{"open", "close", "stop"}, s.Op)
}

// NeedsSudo tells whether the step asks for the password of sudo.
func (s *Step) NeedsSudo() bool {
	o, ok := s.op.(interface{ needsSudo() bool })
	return ok && o.needsSudo()
}
