package ops

import (
	"context"

	"bundlefs/internal/pydist"
)

// Survey is what the agent tells of a node. Its texts are the node's: they are
// made visible before they are shown.
type Survey struct {
	Python     pydist.Python    `json:"python"`
	Executable string           `json:"executable"`
	Home       string           `json:"home"`
	UID        int              `json:"uid"`
	Time       float64          `json:"time"`    // the node's clock, in seconds since 1970
	Modules    []string         `json:"modules"` // those of Python that matter and are there
	Space      map[string]Space `json:"space"`   // by "home", "tmp" and "venv"
	Venv       string           `json:"venv"`    // what is at its path: "nothing", "folder", "file", "link"; "" without one
	VenvPython bool             `json:"venv_python"`
	Tools      []string         `json:"tools"`   // paths of compilers and make
	Headers    string           `json:"headers"` // path of Python.h; "" when it is not there
	Sudo       struct {
		State string `json:"state"` // "free", "asks", "none", "root", "timeout"; "" when it was not asked
	} `json:"sudo"`
}

// Space is what is free on a file system of the node.
type Space struct {
	Path      string `json:"path"`
	Free      uint64 `json:"free"`  // bytes, for an ordinary user
	Total     uint64 `json:"total"` // bytes
	Inodes    uint64 `json:"inodes"`
	AllInodes uint64 `json:"all_inodes"` // 0 where they are not counted
	Writable  bool   `json:"writable"`
	NoExec    bool   `json:"noexec"`
}

// Look asks a node what it is like, through the agent and with nothing changed.
// The Result tells why it could not be asked.
func Look(ctx context.Context, env *Env, sudo bool) (*Survey, Result) {
	w := newWork(env, nil, Discard{})
	defer w.close()
	t := &task{work: w, step: &Step{OKCodes: []int{0}}}
	var s Survey
	r := w.ask(ctx, t, "survey", map[string]any{"sudo": sudo}, &s)
	s.Home, s.Executable, s.Headers, s.Python.Version = visible(s.Home), visible(s.Executable), visible(s.Headers), visible(s.Python.Version)
	for i := range s.Tools {
		s.Tools[i] = visible(s.Tools[i])
	}
	return &s, r
}

// DeliverySize is how many bytes and files the copy and wheel steps deliver, as
// far as is known before anything is built.
func DeliverySize(ctx context.Context, env *Env, steps []Step) (bytes int64, files int) {
	for i := range steps {
		var globs copyOp
		switch o := steps[i].op.(type) {
		case copyOp:
			globs = o
		case wheelOp:
			globs = copyOp(o)
		default:
			continue
		}
		list, _, r := globs.list(ctx, env.Dir)
		if r.Status != OK {
			continue
		}
		for _, d := range list {
			bytes += d.info.Size()
			files++
		}
	}
	return bytes, files
}
