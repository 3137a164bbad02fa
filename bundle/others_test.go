package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/testnode"
)

// Other bundles of the same user are found, by whoever and wherever below the home they were opened.
func TestOthers(t *testing.T) {
	n := testnode.Start(t)
	mine := mustLock(t, config(t, n, "bundle-hello"))
	if list, err := mine.Others(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("alone: %v, %v", list, err)
	}
	var opened []*Bundle
	want := []string{"bundle-1.4.1", "a b/c\nd/deep/bundle", "x/y"}
	for _, dir := range want {
		opened = append(opened, mustLock(t, config(t, n, strings.ReplaceAll(dir, "\n", "-"))))
	}
	// What is no bundle, or hostile, is left out.
	odd := filepath.Join(n.Home, "odd")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(odd, RecordName), 0o755), os.Mkdir(filepath.Join(n.Home, "closed"), 0),
		os.Symlink("/", filepath.Join(n.Home, ".conc-lease-root-1")), os.Symlink("odd", filepath.Join(n.Home, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := mine.Others(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, o := range list {
		if found[o.Dir] || o.Record == nil || !strings.Contains(o.String(), "held by "+o.Record.Who()) {
			t.Errorf("%s: %+v", o, o.Record)
		}
		found[o.Dir] = true
	}
	for _, b := range opened {
		if !found[b.Dir()] {
			t.Errorf("%s is not among %v", b.Dir(), list)
		}
	}
	if len(list) != len(opened) {
		t.Errorf("%d bundles: %v", len(list), list)
	}
	for _, b := range append(opened, mine) {
		mustClose(t, b)
	}
}

func FuzzOthers(f *testing.F) {
	f.Add([]byte("3 2\n./b{}5 0\n./a/b"))
	f.Add([]byte("\n\n9999 1\nx"))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, _ := parseOthers(body)
		for _, o := range list {
			if strings.ContainsAny(o.String(), "\n\x1b") {
				t.Errorf("%q", o.String())
			}
		}
	})
}
