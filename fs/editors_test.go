package fs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// terminal is tmux, which runs a program on a terminal.
type terminal struct {
	t      *testing.T
	socket string
}

// onTerminal starts a program; tmux ends with it.
func onTerminal(t *testing.T, dir string, args ...string) *terminal {
	t.Helper()
	tm := &terminal{t, filepath.Join(t.TempDir(), "tmux")}
	cmd := tm.command(append([]string{"new-session", "-d", "-x", "80", "-y", "24", "--"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = tm.command("kill-server").Run() }) // fails when it has ended, as it should have
	return tm
}

func (tm *terminal) command(args ...string) *exec.Cmd {
	cmd := exec.Command("tmux", append([]string{"-f", "/dev/null", "-S", tm.socket}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8", "HOME="+filepath.Dir(tm.socket))
	return cmd
}

// shows waits until the screen has a text.
func (tm *terminal) shows(text string) {
	tm.t.Helper()
	var screen []byte
	eventually(tm.t, "the terminal shows "+text, func() bool {
		var err error
		screen, err = tm.command("capture-pane", "-p").Output()
		return err == nil && strings.Contains(string(screen), text)
	})
}

// keys types; words such as Enter and C-o are keys.
func (tm *terminal) keys(keys ...string) {
	tm.t.Helper()
	if out, err := tm.command(append([]string{"send-keys"}, keys...)...).CombinedOutput(); err != nil {
		tm.t.Fatalf("tmux: %v: %s", err, out)
	}
}

// ended waits until the program has ended.
func (tm *terminal) ended() {
	tm.t.Helper()
	eventually(tm.t, "the program on the terminal ends", func() bool { return tm.command("has-session").Run() != nil })
}

// TestEditors saves a file with editors, with their backups and swap files.
func TestEditors(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			m := newModeMount(t, mode.exclusive)
			t.Run("vim", func(t *testing.T) {
				edit(t, m, func(dir string) {
					tm := onTerminal(t, dir, "vim", "-u", "NONE", "-N", "-i", "NONE", "-c", "set backup backupdir=. backupskip=", "deploy.ini")
					tm.shows("first line")
					tm.keys("Go", "added in vim", "Escape", ":w", "Enter")
					tm.shows("written")
					tm.keys("Go", "and once more", "Escape", ":wq", "Enter")
					tm.ended()
				}, "first line\nadded in vim\nand once more\n", "first line\nadded in vim\n")
			})
			t.Run("nano", func(t *testing.T) {
				edit(t, m, func(dir string) {
					tm := onTerminal(t, dir, "nano", "--ignorercfiles", "--backup", "deploy.ini")
					tm.shows("first line")
					tm.keys("added in nano", "Enter", "C-o")
					tm.shows("File Name to Write")
					tm.keys("Enter")
					tm.shows("Wrote 2 lines")
					tm.keys("C-x")
					tm.ended()
				}, "added in nano\nfirst line\n", "first line\n")
			})
		})
	}
}

// edit lets an editor change a file, and looks at what is on the node then: the file, and the
// backup beside it.
func edit(t *testing.T, m *mount, with func(dir string), want, backup string) {
	t.Helper()
	dir := m.fresh(t)
	onNode := filepath.Join(m.Node, filepath.Base(dir))
	write(t, filepath.Join(dir, "deploy.ini"), "first line\n")
	if err := os.Chmod(filepath.Join(dir, "deploy.ini"), 0o640); err != nil {
		t.Fatal(err)
	}
	with(dir)
	syncFolder(t, dir)
	reads(t, filepath.Join(dir, "deploy.ini"), want)
	reads(t, filepath.Join(onNode, "deploy.ini"), want)
	reads(t, filepath.Join(onNode, "deploy.ini~"), backup)
	info, err := os.Stat(filepath.Join(onNode, "deploy.ini"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	names, err := os.ReadDir(onNode)
	if err != nil || len(names) != 2 {
		t.Errorf("on the node are %v, %v", names, err)
	}
}
