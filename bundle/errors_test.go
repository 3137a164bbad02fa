package bundle

import (
	"errors"
	"strings"
	"testing"
)

func TestRefusedError(t *testing.T) {
	one := &RefusedError{Node: "n1", MountPoint: "/m/my files", Changes: []Refused{{"a b\x1b", "EACCES", "permission denied"}}}
	if got := one.Error(); got != "n1 refuses 1 change (kept here): a b: EACCES: permission denied" {
		t.Errorf("got %q", got)
	}
	if errors.Is(one, ErrBlocked) {
		t.Error("a barrier that fails is not blocked")
	}
	for _, words := range []string{"conc sync n1", "bundlefs discard '/m/my files' 'a b'", "conc close n1 --discard"} {
		if !strings.Contains(one.Hint(), words) {
			t.Errorf("no %q in %q", words, one.Hint())
		}
	}
	many := &RefusedError{Node: "n1", MountPoint: "/m", Changes: make([]Refused, 7), Before: "unmounted"}
	if got := many.Error(); !strings.HasPrefix(got, "not unmounted: n1 refuses 7 changes") || !strings.HasSuffix(got, "; and 2 more") {
		t.Errorf("got %q", got)
	}
	if !errors.Is(many, ErrBlocked) || !strings.Contains(many.Hint(), "bundlefs discard /m PATH") {
		t.Errorf("%v", many.Hint())
	}
}

func TestLostErrorTellsOfTheSpool(t *testing.T) {
	e := &LostError{Node: "n1", Dir: "b", Spool: "/cache/spool-1"}
	if !strings.Contains(e.Error(), "kept in /cache/spool-1") || !strings.Contains(e.Hint(), "but not the spool") {
		t.Errorf("%v; %s", e, e.Hint())
	}
}
