package vfs

import (
	"testing"
	"time"

	"bundlefs/internal/sftpwire"
)

// The answer about a folder that comes with a change of its names is believed only if nothing
// else was changed meanwhile.
func TestFolderLookIsVoid(t *testing.T) {
	for name, c := range map[string]struct {
		answer    bool
		meanwhile func(t *tree, dir *node)
		want      found
	}{
		"alone":           {true, func(*tree, *node) {}, present},
		"no answer":       {false, func(*tree, *node) {}, unknown},
		"another change":  {true, func(t *tree, dir *node) { t.touch(dir) }, unknown},
		"a child changed": {true, func(t *tree, dir *node) { t.touch(t.child(dir, "f")) }, present},
		"moved away":      {true, func(t *tree, dir *node) { t.rename(t.nodes[RootIno], "d", t.nodes[RootIno], "e") }, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Shared{tree: newTree("/r"), cache: testCache(100)}
			s.tree.cache = s.cache
			s.link = &transport{}
			s.link.metrics.rtt.measured(50 * time.Millisecond)
			dir := s.tree.remember(s.tree.nodes[RootIno], "d", TypeDir)
			s.tree.remember(dir, "f", TypeRegular)
			question := s.cache.begin("/r")
			s.cache.put(question, "d", &sftpwire.Stat{Permissions: TypeDir, Mtime: 1})
			s.cache.end(question)

			looks := folderLooks{s.look(dir, "/r/d/f")}
			if c.answer {
				looks[0].st = &sftpwire.Stat{Permissions: TypeDir, Mtime: 2}
			}
			c.meanwhile(s.tree, dir)
			looks.changed(func(t *tree) { t.unlinkLocked(dir, "f") })
			looks.end()
			p, _ := s.tree.path(dir)
			st, _, found := s.cache.look(p)
			if found != c.want || found == present && st.Mtime != 2 {
				t.Errorf("%v %+v, want %v", found, st, c.want)
			}
			if len(s.cache.fetches) != 0 {
				t.Errorf("%d questions are left", len(s.cache.fetches))
			}
			// One that failed leaves the folder unknown.
			looks = folderLooks{s.look(dir, p+"/f")}
			looks.end()
			if _, _, found := s.cache.look(p); found != unknown {
				t.Errorf("after a failure: %v", found)
			}
		})
	}
}
