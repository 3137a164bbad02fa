package mountprog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/remote"
	"bundlefs/internal/version"
)

// report is the answer to status: who serves what, and the state of the file system.
type report struct {
	Mountpoint string `json:"mountpoint"`
	Source     string `json:"source"`
	PID        int    `json:"pid"`
	Version    string `json:"version"`
	Unmounted  bool   `json:"unmounted,omitempty"` // nothing but sending is left of it
	fs.Status
	Operations []fs.Operation `json:"operations,omitempty"`
}

// Handle answers the control socket (control.Handler). The requests:
//
//	status    → report, with the round-trip time measured now unless {"ping": false}
//	sync      the barrier, with fs.Progress; with {"lease": false} one that asks the node nothing
//	          where nothing is pending, for who has the lease proved otherwise
//	unmount   the barrier, then the unmount; EBUSY while the mount is in use, an error too while
//	          another mount namespace has it. Answers when the folder underneath is as it was
//	          before and the connection is closed
//	leave     of -o nomount: ends without the barrier; what is not sent is kept if it cannot
//	          be sent within 30 s
//	drop      lets what others wrote on the node be seen
//	ssh       lends the connection to the node, see Take
//	retry     sends again what the node has refused, or of it what is under {"path": …}; answers
//	          {"changes": n}
//	discard   gives up what the node has refused under {"path": …}; answers {"changes": n}
func (s *serving) Handle(ctx context.Context, op string, args json.RawMessage, progress func(any)) (any, error) {
	server := s.ready(ctx)
	if server == nil {
		return nil, fail("wait until bundlefs has mounted or given up", "%s is not mounted yet", s.cfg.mountpoint)
	}
	barrier := func(sync func(context.Context, func(fs.Progress)) error) error {
		err := sync(ctx, func(p fs.Progress) { progress(p) })
		if err == nil {
			return nil
		}
		return s.advise(server.Status(), err)
	}
	switch op {
	case "status":
		how := struct {
			Ping bool `json:"ping"`
		}{true}
		if len(args) > 0 {
			if err := json.Unmarshal(args, &how); err != nil {
				return nil, fmt.Errorf("status: %w", err)
			}
		}
		if how.Ping {
			s.ping(ctx, server)
		}
		st := server.Status() // first: the link goes after the mount
		return report{s.cfg.mountpoint, s.cfg.source.text, os.Getpid(), version.String(), ended(server), st, server.Operations()}, nil
	case "sync":
		how := struct {
			Lease bool `json:"lease"`
		}{true}
		if len(args) > 0 {
			if err := json.Unmarshal(args, &how); err != nil {
				return nil, fmt.Errorf("sync: %w", err)
			}
		}
		do := server.Sync
		if !how.Lease {
			do = server.Settle
		}
		if err := barrier(do); err != nil {
			return nil, err
		}
		return synced{server.Status().Doubt}, nil
	case "unmount":
		if err := barrier(server.Settle); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil { // nobody wants it any more
			return nil, err
		}
		if err := server.Unmount(); err != nil {
			return nil, s.inUse(err)
		}
		select {
		case <-s.finished:
		case <-ctx.Done(): // a second signal: the process leaves with things unfinished
			select {
			case <-s.finished:
			default:
				return nil, ctx.Err()
			}
		}
		return struct{}{}, nil
	case "leave":
		if !s.cfg.nomount {
			break
		}
		return struct{}{}, server.Unmount()
	case "drop":
		server.Drop()
		return struct{}{}, nil
	case "retry", "discard":
		return s.refused(server, op, args)
	}
	return s.fileOp(ctx, server, op, args)
}

// synced is the answer to sync. Doubt is why what is on the node may still change.
type synced struct {
	Doubt string `json:"doubt,omitempty"`
}

// inUse adds to the error of an unmount how to find who uses the mount.
func (s *serving) inUse(err error) error {
	var detached *fs.DetachedError
	switch {
	case errors.As(err, &detached):
		find := "a program that has a file or folder of it open, or a container or service with mounts of its own"
		if detached.Device != "" {
			find = "grep -l ' " + detached.Device + " ' /proc/[0-9]*/mountinfo lists the processes of containers and services that have a copy of it"
		}
		return fail(fmt.Sprintf("end who uses it: %s; or kill %d, twice, which ends it whoever uses it", find, os.Getpid()), "%w", err)
	case errors.Is(err, syscall.EBUSY):
		return fail("leave the folder in every shell and close its files: fuser -vm "+s.cfg.mountpoint+" lists who uses it", "%w", err)
	}
	return err
}

// refused sends again, or gives up, what the node has refused.
func (s *serving) refused(server *fs.Server, op string, args json.RawMessage) (any, error) {
	var what struct {
		Path string `json:"path"`
	}
	if len(args) > 0 {
		if err := json.Unmarshal(args, &what); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
	}
	do := server.Discard
	if op == "retry" {
		do = server.Retry
	}
	changes, err := do(what.Path)
	if errors.Is(err, syscall.ENOENT) || err == nil && changes == 0 && what.Path != "" {
		return nil, fail("bundlefs status "+s.cfg.mountpoint+" tells what the node has refused", "%s %s: nothing of it was refused", op, what.Path)
	}
	return map[string]int{"changes": changes}, err
}

// pingTime is how long status waits for the node. With a link that is down it tells what was
// measured before.
const pingTime = 500 * time.Millisecond

func (s *serving) ping(ctx context.Context, server *fs.Server) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	server.Ping(ctx)
}

// advise adds to the error of a barrier what can be done about it.
func (s *serving) advise(st fs.Status, err error) error {
	at := remote.Quote(s.cfg.mountpoint)
	switch {
	case st.Fence != "":
		return fail("what was not sent is kept; copy what is needed out of the mount before it is unmounted", "%w", err)
	case !st.Connected:
		return fail("nothing is lost: it is sent when the node can be reached again", "%w", err)
	case len(st.Refused) > 0:
		return fail("mend the cause on the node and send it again with bundlefs retry "+at+", or give it up with bundlefs discard "+at+" PATH", "%w", err)
	}
	return err
}
