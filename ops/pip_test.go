package ops

import (
	"archive/zip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bundlefs/internal/testnode"
)

// tinyWheel writes a wheel of one module into deploy.ini's folder, and gives its SHA-256.
func (s *site) tinyWheel(version string) string {
	s.t.Helper()
	file := filepath.Join(s.env.Dir, "tiny-"+version+"-py3-none-any.whl")
	f, err := os.Create(file)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	archive := zip.NewWriter(f)
	info := "tiny-" + version + ".dist-info/"
	for name, text := range map[string]string{
		"tiny.py":         "VERSION = '" + version + "'\n",
		info + "METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: " + version + "\n",
		info + "WHEEL":    "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		info + "RECORD":   "tiny.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n",
	} {
		w, err := archive.Create(name)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		s.t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

// Constraints and hashes are honoured, and bytecode is left out on request.
func TestPipHonours(t *testing.T) {
	s := newSite(t, testnode.Start(t))
	s.deliver(wheel(t, "pip"))
	s.tinyWheel("1.0")
	sum := s.tinyWheel("2.0")
	s.write("below.txt", "tiny<2\n")
	s.write("good.txt", "tiny==2.0 --hash=sha256:"+sum+"\n")
	s.write("bad.txt", "tiny==2.0 --hash=sha256:"+fmt.Sprintf("%x", sha256.Sum256(nil))+"\n")
	want(t, first(s.run("local copy *.whl *.txt", "remote venv", "remote pip tiny -c below.txt --no-compile")), OK, "installed tiny-1.0")
	cached := func() int {
		found, err := filepath.Glob(filepath.Join(s.node.Home, "venvs/v1/lib/python3*/site-packages/__pycache__/tiny*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if cached() != 0 {
		t.Error("it was compiled")
	}
	want(t, first(s.run("remote pip -r bad.txt")), Failed, "pip: ", "HASH")
	want(t, first(s.run("remote run ~/venvs/v1/bin/python -c 'import tiny; assert tiny.VERSION == \"1.0\"'")), OK)
	want(t, first(s.run("remote run rm -r ~/venvs/v1/lib/python3*/site-packages/__pycache__", "remote pip -r good.txt")), OK, "installed tiny-2.0")
	if cached() == 0 {
		t.Error("it was not compiled")
	}
}
