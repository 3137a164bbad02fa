package mountprog

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	m := filepath.Join(dir, "m")
	conf := filepath.Join(dir, "fuse.conf")
	for _, err := range []error{
		os.Mkdir(m, 0o700),
		os.WriteFile(conf, []byte("# user_allow_other\n"), 0o600),
		os.WriteFile(conf+".yes", []byte("x\n  user_allow_other \n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fusermount := func() (string, error) { return "/bin/fusermount3", nil }
	good := system{"/dev/fuse", conf, fusermount, os.Geteuid()}
	user := good
	user.euid = max(1, os.Geteuid())
	for name, c := range map[string]struct {
		change func(*system, *mountConfig)
		want   string // "" is no error
		hint   string
	}{
		"all is well":   {func(*system, *mountConfig) {}, "", ""},
		"no device":     {func(s *system, _ *mountConfig) { s.fuseDevice += "x" }, "FUSE is missing", "modprobe fuse"},
		"hidden":        {func(s *system, _ *mountConfig) { s.fuseDevice = os.DevNull }, "FUSE is hidden", "--device"},
		"no fusermount": {func(s *system, _ *mountConfig) { s.fusermount = func() (string, error) { return "", fs.ErrNotExist } }, "fusermount3", "apt-get install fuse3"},
		"allow_other":   {func(_ *system, m *mountConfig) { m.allowOther = true }, "allow_other is not allowed", "user_allow_other"},
		"allow_root":    {func(_ *system, m *mountConfig) { m.allowRoot = true }, "allow_other is not allowed", "user_allow_other"},
		"no fuse.conf":  {func(s *system, m *mountConfig) { s.fuseConf, m.allowOther = "/nowhere", true }, "no such file", "user_allow_other"},
		"allowed":       {func(s *system, m *mountConfig) { s.fuseConf, m.allowOther = conf+".yes", true }, "", ""},
	} {
		s, cfg := user, &mountConfig{mountpoint: m}
		c.change(&s, cfg)
		var said bytes.Buffer
		err := s.check(cfg, &messages{&said})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hintOf(err), c.hint) {
			t.Errorf("%s: %v (%s), want …%s… (…%s…)", name, err, hintOf(err), c.want, c.hint)
		}
	}
	// Root needs neither fusermount3 nor fuse.conf.
	s, cfg := good, &mountConfig{mountpoint: m, allowOther: true}
	s.euid, s.fusermount = 0, func() (string, error) { return "", errors.New("asked for") }
	if err := s.check(cfg, &messages{&bytes.Buffer{}}); err != nil {
		t.Errorf("root: %v", err)
	}
}

// TestDeviceClosed opens a device of mode 0600 as another user.
func TestDeviceClosed(t *testing.T) {
	dir, err := os.MkdirTemp("", "device")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	device := filepath.Join(dir, "fuse")
	if err := errors.Join(os.Chmod(dir, 0o711), os.WriteFile(device, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		if err := os.Chmod(device, 0); err != nil {
			t.Fatal(err)
		}
	}
	for euid, hint := range map[int]string{0: "--device " + device, 1000: "sudo chmod 0666 " + device} {
		result := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its user
			if os.Getuid() == 0 {
				unix.Setfsuid(nobody)
			}
			result <- system{fuseDevice: device, euid: euid}.checkDevice()
		}()
		if err := <-result; !errors.Is(err, fs.ErrPermission) || !strings.Contains(hintOf(err), hint) {
			t.Errorf("uid %d: %v (%s), want permission denied (…%s…)", euid, err, hintOf(err), hint)
		}
	}
}
