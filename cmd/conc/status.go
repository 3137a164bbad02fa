package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/journal"
)

type statusOptions struct{ json, local bool }

func newStatusCommand(a *app) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [NODE…]",
		Short: "open bundles: who, since when, mount health, what is pending, last step",
		RunE:  func(cmd *cobra.Command, args []string) error { return runStatus(cmd.Context(), a, o, args) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "as JSON")
	cmd.Flags().BoolVar(&o.local, "local", false, "ask only this workstation, not the node")
	return cmd
}

// bundleInfo is what status tells of one node.
type bundleInfo struct {
	Node     string          `json:"node"`
	Bundle   string          `json:"bundle"`
	Open     bool            `json:"open"`          // by this workstation
	Now      string          `json:"now,omitempty"` // what deploy.ini has by now, when that is another
	Phase    string          `json:"phase,omitempty"`
	Holder   string          `json:"holder,omitempty"`
	Message  string          `json:"message,omitempty"`
	Since    *time.Time      `json:"since,omitempty"`
	Lock     string          `json:"lock"` // "ours", "lost", "another's", "free", "unknown"
	LockNote string          `json:"lock_note,omitempty"`
	Mount    string          `json:"mount,omitempty"`
	Health   string          `json:"health,omitempty"`
	Problem  string          `json:"problem,omitempty"`
	Spool    string          `json:"spool,omitempty"`    // where what is not sent is kept
	Bundlefs json.RawMessage `json:"bundlefs,omitempty"` // all that the mount tells about itself
	LastStep string          `json:"last_step,omitempty"`

	mount *bundle.MountStatus // of Bundlefs; nil when it does not answer
}

func runStatus(ctx context.Context, a *app, o statusOptions, args []string) error {
	var sel *selection
	var err error
	if len(args) > 0 {
		sel, err = a.nodesOrOpen(args)
	} else {
		sel, err = a.allOpen()
	}
	if err != nil {
		return err
	}
	infos := []bundleInfo{}
	failed := a.each(ctx, sel, func(s *session) error {
		info, err := s.status(ctx, o.local)
		if err != nil {
			return err
		}
		infos = append(infos, *info)
		return nil
	})
	if o.json {
		return errors.Join(a.ui.json(infos), failed)
	}
	for _, i := range infos {
		a.ui.table(i.rows())
	}
	if len(infos) == 0 && failed == nil {
		a.ui.info("", "", "no bundle of %s is open", sel.file.Path())
	}
	return failed
}

// allOpen selects the nodes of the deploy.ini that have an open bundle.
func (a *app) allOpen() (*selection, error) {
	f, err := a.load()
	if err != nil {
		return nil, err
	}
	return &selection{f, openOf(f, a.states()), true}, nil
}

func (s *session) status(ctx context.Context, local bool) (*bundleInfo, error) {
	i := &bundleInfo{Node: s.node.Name, Bundle: s.bundle.Dir(), Lock: "unknown"}
	st, err := s.bundle.Status(ctx)
	switch {
	case errors.Is(err, bundle.ErrNotOpen):
	case err != nil && st == nil:
		i.Problem = err.Error()
	default:
		since := st.Record.Time
		i.Open, i.Phase, i.Holder, i.Message, i.Since = true, string(st.Phase), st.Record.Who(), st.Record.Message, &since
		i.Mount, i.Health, i.Problem, i.Bundlefs = st.MountPoint, string(st.Health), st.Problem, st.Mount
		i.Spool, i.mount = st.Spool, st.MountStatus()
		if !isNow(&st.State, s.node) {
			i.Now = nowText(s.file, s.node)
		}
		if i.mount != nil && i.mount.Fence != "" {
			i.Lock, i.LockNote = "lost", strings.TrimPrefix(i.mount.Fence, "lock lost: ")
		}
	}
	if !local {
		s.lockStatus(ctx, i)
	}
	i.LastStep, err = s.lastStep()
	return i, err
}

// lockStatus asks the node whose the bundle is. A node that does not answer
// is told, but what is known here is shown all the same.
func (s *session) lockStatus(ctx context.Context, i *bundleInfo) {
	h, err := s.bundle.Holder(ctx)
	switch {
	case err != nil && i.Lock == "lost": // the mount knows
		return
	case err != nil:
		i.LockNote = err.Error()
		return
	case h.Ours:
		i.Lock = "ours"
		return
	case !h.Found && i.Open:
		i.Lock, i.LockNote = "lost", "the bundle is gone from the node"
		return
	case !h.Found:
		i.Lock = "free"
		return
	case i.Open:
		i.Lock = "lost"
	default:
		i.Lock = "another's"
	}
	i.LockNote = "held by " + holderText(h)
}

func (s *session) lastStep() (string, error) {
	ours := ofFile(s.file.Path())
	events, err := s.app.journal.Read(func(e *journal.Event) bool {
		return (e.Kind == journal.End || e.Kind == journal.Start) && e.Node == s.node.Name && e.Bundle == s.bundle.Dir() && ours(e.Deploy)
	})
	if err != nil || len(events) == 0 {
		return "", err
	}
	e := events[len(events)-1]
	if e.Kind == journal.Start {
		e.Status, _ = notEnded(&e)
	}
	return fmt.Sprintf("%s %s: %s at %s", e.List, e.Step, e.Status, e.Time.Local().Format(time.DateTime)), nil
}

func (i *bundleInfo) rows() [][]string {
	rows := [][]string{{i.Node + ":", i.Bundle}}
	add := func(key, value string) {
		if value != "" {
			rows = append(rows, []string{"  " + key, value})
		}
	}
	lock := i.Lock
	if i.LockNote != "" {
		lock += ": " + i.LockNote
	}
	add("lock", lock)
	if i.Now != "" {
		add("opened as", i.Bundle+"; deploy.ini has "+i.Now+" now")
	}
	if i.Phase != string(bundle.PhaseOpen) {
		add("phase", i.Phase)
	}
	add("holder", i.Holder)
	add("message", i.Message)
	if i.Since != nil {
		add("since", i.Since.Local().Format(time.DateTime))
	}
	add("mount", i.Mount)
	health := i.Health
	if i.Problem != "" {
		health += ": " + i.Problem
	}
	add("health", health)
	if m := i.mount; m != nil {
		add("link", linkText(m))
		add("pending", pendingText(m))
		for _, r := range m.Refused {
			add("refused", r.String())
		}
		add("doubt", m.Doubt)
		add("unfenced", m.Unfenced)
	} else if i.Spool != "" {
		add("pending", "not known until it is mounted again: conc mount "+i.Node)
	}
	if i.Spool != "" && (i.mount == nil || i.Lock == "lost") {
		add("spool", i.Spool)
	}
	add("last step", i.LastStep)
	return rows
}

func linkText(m *bundle.MountStatus) string {
	switch {
	case m.Connected:
		return "up"
	case m.LinkError != "":
		return "down: " + m.LinkError
	}
	return "down"
}

func pendingText(m *bundle.MountStatus) string {
	text := fmt.Sprintf("%d files, %d bytes", m.Pending.Files, m.Pending.Bytes)
	if n := len(m.Refused); n > 0 {
		text += fmt.Sprintf("; %d refused", n)
	}
	return text
}
