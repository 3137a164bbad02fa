package rmtree

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestRemove removes folders that nobody may write to, as an ordinary user: root may anyway.
func TestRemove(t *testing.T) {
	if dir := os.Getenv("RMTREE_TEST_DIR"); dir != "" {
		if err := Remove(dir); err != nil {
			t.Fatal(err)
		}
		return
	}
	parent, err := os.MkdirTemp("", "rmtree")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	dir, outside := filepath.Join(parent, "tree"), filepath.Join(parent, "outside")
	for _, d := range []string{"closed/a/b", "readonly", "hidden"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(outside, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "readonly", "link")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRemove$")
	cmd.Env = append(os.Environ(), "RMTREE_TEST_DIR="+dir)
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if out, err := exec.Command("chown", "-Rh", "65534:65534", parent).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for d, mode := range map[string]os.FileMode{"closed/a": 0o500, "readonly": 0o500, "hidden": 0, "closed": 0} {
		defer os.Chmod(filepath.Join(dir, d), 0o700)
		if err := os.Chmod(filepath.Join(dir, d), mode); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
	if st, err := os.Stat(outside); err != nil || st.Mode().Perm() != 0o500 {
		t.Errorf("what a link points to: %v %v", st, err)
	}
	if err := Remove(filepath.Join(dir, "not there")); err != nil {
		t.Error(err)
	}
}
