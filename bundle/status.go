package bundle

import (
	"context"
	"encoding/json"
	"fmt"
)

// Health is how a mount is.
type Health string

// The values of Health.
const (
	HealthNone    Health = "not mounted"
	HealthOK      Health = "mounted"
	HealthServed  Health = "without a mount" // as HealthOK, but there is no mount point
	HealthDead    Health = "dead"            // mounted, but its process has died; without a mount: has left a spool
	HealthStuck   Health = "stuck"           // its process does not answer
	HealthForeign Health = "foreign"         // something else is mounted there
)

// Status is how a bundle of ours is.
type Status struct {
	State
	Health  Health          `json:"health"`
	Mount   json.RawMessage `json:"mount_status,omitempty"` // what bundlefs tells about itself
	Problem string          `json:"problem,omitempty"`      // why Health is not what it should be, or will not be for long
	Spool   string          `json:"spool,omitempty"`        // the folder with what is not sent yet; "" when there is none
}

// MountStatus is what Mount tells; nil when the mount does not answer.
func (s *Status) MountStatus() *MountStatus {
	var m MountStatus
	if len(s.Mount) == 0 || json.Unmarshal(s.Mount, &m) != nil {
		return nil
	}
	return &m
}

// Unsent tells what a mount of the bundle has to send, without asking the node anything; nil when
// the mount does not answer.
func (b *Bundle) Unsent(ctx context.Context) *MountStatus {
	st, ok := b.State()
	var m MountStatus
	if !ok || status(ctx, b.place(&st), &m) != nil {
		return nil
	}
	return &m
}

// Status tells how the bundle and its mount are; only the workstation is
// looked at: see Holder for the node. ErrNotOpen when it is not open.
func (b *Bundle) Status(ctx context.Context) (*Status, error) {
	st, ok := b.State()
	if !ok {
		_, err := b.open()
		return nil, err
	}
	s := &Status{State: st, Health: HealthNone, Spool: st.spool()}
	ours, other, err := b.findMount(&st)
	switch {
	case err != nil:
		s.Problem = err.Error()
		return s, nil
	case other != nil:
		s.Health, s.Problem = HealthForeign, other.Type+" "+other.Source
		return s, nil
	case !ours && st.MountPoint == None && s.Spool != "":
		s.Health, s.Problem = HealthDead, "its process has died"
		return s, nil
	case !ours:
		return s, nil
	}
	switch how, p := probe(ctx, b.place(&st)); how {
	case gone:
		s.Health, s.Problem = HealthDead, "its process has died"
		return s, nil
	case hung:
		s.Health, s.Problem = HealthStuck, fmt.Sprintf("process %s does not answer: 'conc mount %s' ends it and mounts again", p, st.Node)
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	if err := request(ctx, b.place(&st), "status", nil, &s.Mount, nil); err != nil {
		s.Health, s.Problem = HealthStuck, err.Error()
		return s, nil
	}
	if m := s.MountStatus(); m != nil && m.another() != "" {
		s.Problem = m.another() + ": 'conc mount " + st.Node + "' mounts it again"
	}
	s.Health = HealthOK
	if st.MountPoint == None {
		s.Health = HealthServed
	}
	return s, nil
}
