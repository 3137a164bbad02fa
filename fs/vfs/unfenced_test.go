package vfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bundlefs/fs/vfs"
	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// withoutCommands is a connection over which no command can be run.
type withoutCommands struct {
	vfs.Conn
	limit time.Duration
}

func (c withoutCommands) AliveLimit() time.Duration { return c.limit }

// Where a part of the fence cannot be had, the status says which, and what is written still arrives.
func TestPartsOfTheFence(t *testing.T) {
	const limit = time.Second
	for name, c := range map[string]struct {
		names, commands bool
	}{
		"all": {true, true}, "no names": {false, true}, "no commands": {true, false}, "neither": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := testnode.Start(t)
			target := n.Target()
			target.Options["ServerAliveInterval"] = "0"
			spool := filepath.Join(t.TempDir(), "spool")
			files, err := vfs.NewExclusive(t.Context(), vfs.ExclusiveOptions{
				Dial: func(ctx context.Context) (vfs.Conn, error) {
					conn, err := remote.Dial(ctx, target, remote.Options{})
					switch {
					case err != nil:
						return nil, err
					case c.commands:
						return patientConn{conn, limit}, nil
					}
					return withoutCommands{conn, limit}, nil
				},
				Name: func(i int) string {
					if !c.names {
						return fmt.Sprint("missing/folder/name-", i) // where none can be made
					}
					return fmt.Sprint("name-", i)
				},
				Check: func(func(string) ([]byte, error)) error { return nil },
				Spool: spool, Timeout: -1,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := files.Close(); err != nil {
					t.Error(err)
				}
			})
			if c.commands {
				eventually(t, "the servers are known", func() bool {
					note, _ := os.ReadFile(filepath.Join(spool, "note"))
					return strings.Contains(string(note), `"pid":`) && !strings.Contains(string(note), `"pid":0`)
				})
			}
			h := create(t, files, "file")
			n.HangServers(0)
			if err := files.Write(t.Context(), h, []byte("written"), 0, false); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(files.Flush(t.Context(), h), files.Fsync(t.Context(), h)); err != nil {
				t.Fatal(err)
			}
			files.Release(h)
			hasNow(t, filepath.Join(n.Home, "file"), "written")
			st := files.Status()
			if got := st.Unfenced == ""; got != c.names {
				t.Errorf("unfenced: %q", st.Unfenced)
			}
			if got := st.Doubt == ""; got != c.commands {
				t.Errorf("doubt: %q", st.Doubt)
			}
		})
	}
}
