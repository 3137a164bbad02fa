package bundle

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// The script that removes a bundle may be started at any time: without the token it removes
// nothing, and does not stay.
func TestRemovalWithoutToken(t *testing.T) {
	n := testnode.Start(t)
	client, err := remote.Dial(t.Context(), n.Target(), remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cfg := config(t, n, "b")
	cfg.Ahead = func(context.Context) *remote.Client { return client }
	b := mustLock(t, cfg)
	st, _ := b.State()
	scripts := func() (count int) {
		for _, p := range n.Processes() {
			if strings.Contains(p, ".conc-closing-") {
				count++
			}
		}
		return count
	}
	for name, end := range map[string]func(*removal){
		"dropped":      func(r *removal) { r.drop() },
		"end of input": func(r *removal) { r.take(r.args).abandon(); r.drop() },
		"no token": func(r *removal) {
			a, err := r.take(r.args).finish("\n")
			if err != nil || strings.Join(a.words, " ") != "failed input" {
				t.Errorf("%v, %v", a, err)
			}
			r.drop()
		},
		"half a token": func(r *removal) {
			a, err := r.take(r.args).finish(st.Record.Token)
			if err != nil || strings.Join(a.words, " ") != "failed input" {
				t.Errorf("%v, %v", a, err)
			}
			r.drop()
		},
		"another's": func(r *removal) {
			a, err := r.take(r.args).finish(newToken() + "\n")
			if err != nil || a.words[0] != "held" {
				t.Errorf("%v, %v", a, err)
			}
			r.drop()
		},
		"another folder": func(r *removal) {
			if r.take([]string{"./c"}) != nil {
				t.Error("it is for another folder")
			}
			r.drop()
		},
	} {
		r := b.removeAhead(t.Context(), &st)
		if r.wait(t.Context()) != client {
			t.Fatalf("%s: it did not start", name)
		}
		eventually(t, name+": the script runs", func() bool { return scripts() > 0 })
		end(r)
		eventually(t, name+": the script ends", func() bool { return scripts() == 0 })
		if _, err := os.Stat(filepath.Join(n.Home, "b", RecordName)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustClose(t, b)
	empty(t, n.Home)
	noState(t, cfg)
}

// A script whose connection is lost before it has got the token is no matter: another one is run.
func TestRemovalLost(t *testing.T) {
	n := testnode.Start(t)
	client, err := remote.Dial(t.Context(), n.Target(), remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	asked := 0
	cfg := config(t, n, "b")
	cfg.Ahead = func(context.Context) *remote.Client {
		if asked++; asked > 1 {
			return nil
		}
		return client
	}
	b := mustLock(t, cfg)
	st, _ := b.State()
	early := b.removeAhead(t.Context(), &st)
	if early.wait(t.Context()) == nil {
		t.Fatal("it did not start")
	}
	client.Close()
	if err := b.removeRemote(t.Context(), early); err != nil {
		t.Error(err)
	}
	early.drop()
	empty(t, n.Home)
	noState(t, cfg)
}
