package mountprog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/control"
	"bundlefs/internal/mountpoint"
	"bundlefs/internal/progress"
	"bundlefs/internal/remote"
)

// ask does what is asked of a mount that runs. On a terminal, a bar on stderr shows how far a
// barrier has come.
func ask(ctx context.Context, c *command, stdout, stderr io.Writer) error {
	client, err := control.Dial(ctx, c.mountpoint)
	if errors.Is(err, control.ErrNotMounted) {
		return withoutServer(c, err)
	}
	if err != nil {
		return err
	}
	defer client.Close()
	if err := answers(ctx, c.mountpoint); err != nil {
		return err
	}
	out := json.NewEncoder(stdout)
	bar, barrier := progress.New(stderr), progress.Barrier{What: "bundlefs: " + c.ask}
	defer bar.End()
	step := func(raw json.RawMessage) {
		var left fs.Progress
		if c.json {
			out.Encode(map[string]json.RawMessage{"progress": raw})
		} else if json.Unmarshal(raw, &left) == nil {
			bar.Show(barrier.Left(int64(left.Files), left.Bytes))
		}
	}
	if len(c.paths) > 0 {
		return onPaths(ctx, c, client, stdout)
	}
	var result json.RawMessage
	if err := client.Call(ctx, c.ask, nil, &result, step); errors.Is(err, control.ErrNotMounted) {
		return withoutServer(c, err) // killed at this moment
	} else if err != nil {
		return err
	}
	if c.ask == "sync" {
		var s synced
		if json.Unmarshal(result, &s) == nil && s.Doubt != "" {
			fmt.Fprintf(stderr, "bundlefs: %s\n", oneLine(s.Doubt))
		}
	}
	switch {
	case c.ask == "status" && c.json:
		var indented []byte
		if indented, err = json.MarshalIndent(result, "", "  "); err == nil {
			_, err = fmt.Fprintf(stdout, "%s\n", indented)
		}
	case c.prometheus:
		err = printPrometheus(stdout, result)
	case c.ask == "status":
		err = printStatus(stdout, result)
	case c.json:
		err = out.Encode(map[string]json.RawMessage{"result": result})
	}
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// answerTime is how long the process of a mount may take to answer whether it lives.
const answerTime = 10 * time.Second

// answers proves that the process of a mount answers at all, before it is asked for what takes as
// long as it takes: one that is stopped would be waited for for ever.
func answers(ctx context.Context, at string) error {
	limit, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	client, err := control.Dial(limit, at)
	if err != nil {
		return nil // which is told by who asks
	}
	defer client.Close()
	err = client.Call(limit, "status", map[string]bool{"ping": false}, nil, nil)
	if err == nil || limit.Err() == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	pid, err := client.Peer()
	if err != nil {
		return err
	}
	return fail(fmt.Sprintf("if it is stopped, kill -CONT %[1]d; or kill -9 %[1]d, then bundlefs unmount %[2]s: "+
		"in exclusive mode what it has not sent is kept, and sent by the next mount", pid, remote.Quote(at)),
		"%s: the process %d that serves it has not answered for %v", at, pid, answerTime)
}

// onPaths gives up, or sends again, what the node has refused: one path after the other.
func onPaths(ctx context.Context, c *command, client *control.Client, stdout io.Writer) error {
	out := json.NewEncoder(stdout)
	done := map[string]string{"discard": "given up", "retry": "sent again"}[c.ask]
	for _, path := range c.paths {
		var result struct {
			Changes int `json:"changes"`
		}
		// Named as the operator sees it, or from the mount's root.
		if rel, err := filepath.Rel(c.mountpoint, path); err == nil && filepath.IsLocal(rel) {
			path = rel
		}
		if err := client.Call(ctx, c.ask, map[string]string{"path": path}, &result, nil); err != nil {
			return err
		}
		var err error
		if c.json {
			err = out.Encode(map[string]any{"path": path, "result": result})
		} else {
			_, err = fmt.Fprintf(stdout, "%s: %d %s\n", path, result.Changes, done)
		}
		if err != nil {
			return fmt.Errorf("print the answer: %w", err)
		}
	}
	return nil
}

// withoutServer is for a mount point that no process answers for. unmount removes what a
// killed bundlefs left: the dead mount, and the closed folder underneath.
func withoutServer(c *command, notMounted error) error {
	path, err := control.Canonical(c.mountpoint)
	if err != nil {
		return notMounted
	}
	mounted, err := mountpoint.Find(path)
	if err != nil {
		return err
	}
	if c.ask == "unmount" {
		// Keeps a mount from beginning meanwhile, and removes a dead process's socket.
		ctl, err := control.Listen(path, &serving{cfg: &mountConfig{mountpoint: path}})
		if err != nil {
			return err
		}
		defer ctl.Close()
	}
	switch {
	case mounted == nil && c.ask != "unmount":
		return notMounted
	case mounted == nil:
	case !strings.HasPrefix(mounted.Type, "fuse") || !mountpoint.Dead(path):
		return fail("it may be another user's, or not of bundlefs", "%w, but %s of type %s", notMounted, mounted.Source, mounted.Type)
	case c.ask != "unmount":
		return fail("bundlefs unmount "+path+", then mount it again", "%s: the bundlefs that served it is gone", path)
	default:
		if err := mountpoint.Unmount(path, true); err != nil {
			return err
		}
	}
	recovered, err := mountpoint.Recover(path)
	if err != nil {
		return err
	}
	if mounted == nil && !recovered {
		return notMounted
	}
	return nil
}
