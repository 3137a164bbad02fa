package ops

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
)

// audit is what the node's own log says of a step: agent_audit.py adds when it
// ended and how. The arguments are not in it: there may be a secret in them.
func (w *work) audit(s *Step) map[string]string {
	deployed := s.File
	if deployed == "" { // a list that no file has
		deployed = w.env.Dir
	} else if abs, err := filepath.Abs(deployed); err == nil {
		deployed = abs
	}
	return map[string]string{
		"who": whoami(), "deploy": visible(deployed), "node": w.env.Node.Name, "list": visible(s.List), "step": visible(s.Name),
		"op": string(s.Host) + " " + s.Op,
	}
}

// whoami is the operator, as user@workstation.
func whoami() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return visible(name + "@" + host)
}

// note has the node's log say how a step ended that the agent had no part in. Nobody
// waits for that, and no agent is started for it: without one, it goes with the next request of the run.
func (w *work) note(s *Step, r Result) {
	if w.audited {
		return
	}
	frame, err := appendFrame(nil, map[string]any{"op": "note", "audit": w.audit(s), "status": r.Status})
	if err != nil {
		w.log.Warn("the log on the node lacks a step", "step", s.Name, "error", err)
		return
	}
	if w.agent == nil {
		w.notes = append(w.notes, frame...)
		return
	}
	if err := w.agent.send(frame); err != nil {
		w.log.Debug("the log on the node lacks a step", "step", s.Name, "error", err)
	}
}
