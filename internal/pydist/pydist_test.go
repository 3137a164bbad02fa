package pydist

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeWheel writes a wheel with nothing but metadata; requires are its Requires-Dist.
func makeWheel(t testing.TB, dir, base string, fields ...string) string {
	t.Helper()
	file := filepath.Join(dir, base)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parts := strings.Split(base, "-")
	archive := zip.NewWriter(f)
	w, err := archive.Create(parts[0] + "-" + parts[1] + ".dist-info/METADATA")
	if err != nil {
		t.Fatal(err)
	}
	text := "Metadata-Version: 2.1\nName: " + parts[0] + "\nVersion: " + parts[1] + "\n" + strings.Join(append(fields, ""), "\n") + "\nName: not this one\n"
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// makeSdist writes an sdist with these files: path, content, path, content, …
func makeSdist(t testing.TB, dir, base string, files ...string) string {
	t.Helper()
	file := filepath.Join(dir, base)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packed := gzip.NewWriter(f)
	archive := tar.NewWriter(packed)
	stem := strings.TrimSuffix(base, ".tar.gz")
	for i := 0; i < len(files); i += 2 {
		if err := archive.WriteHeader(&tar.Header{Name: stem + "/" + files[i], Mode: 0o644, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t testing.TB, file string) *Dist {
	t.Helper()
	d, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReadWheel(t *testing.T) {
	file := makeWheel(t, t.TempDir(), "Hello_World-1.4.2-py2.py3-none-any.whl",
		"Requires-Python: >=3.6", "Requires-Dist: Greet.Lib (>=2,<3)", `Requires-Dist: x[a, B]==1.* ; extra == "full"`, "Summary: one", "  two")
	d := read(t, file)
	if d.Name != "hello-world" || d.Version != "1.4.2" || !d.Pure() || !d.Known || d.RequiresPython != ">=3.6" || len(d.Tags) != 2 {
		t.Errorf("%+v", d)
	}
	if len(d.Requires) != 2 || d.Requires[0].String() != "greet-lib>=2,<3" || d.Requires[1].String() != "x[a,b]==1.*" || d.Requires[1].Marker != `extra == "full"` {
		t.Errorf("%+v", d.Requires)
	}
	if read(t, makeWheel(t, t.TempDir(), "a-1-cp311-abi3-linux_x86_64.whl")).Pure() {
		t.Error("a wheel for one platform is pure")
	}
}

func TestReadSdist(t *testing.T) {
	info := "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n"
	d := read(t, makeSdist(t, t.TempDir(), "hello-1.0.tar.gz", "PKG-INFO", info, "setup.py", "x",
		"src/hello.egg-info/requires.txt", "greet>=1\n\n[full:python_version > \"3\"]\nmore\n", "pyproject.toml", "[build-system]\nrequires = [\"flit_core >=3\"]\nbuild-backend = \"flit_core.buildapi\"\n"))
	if d.Name != "hello" || d.Wheel() || !d.Dynamic || d.Setuptools || len(d.BuildRequires) != 1 || d.BuildRequires[0].String() != "flit-core>=3" {
		t.Errorf("%+v", d)
	}
	if len(d.Requires) != 2 || d.Requires[1].Marker != `(python_version > "3") and extra == "full"` {
		t.Errorf("%+v", d.Requires)
	}
	d = read(t, makeSdist(t, t.TempDir(), "hello-1.0.tar.gz", "PKG-INFO", strings.Replace(info, "2.1", "2.2", 1)+"Requires-Dist: a\n", "h.egg-info/requires.txt", "b\n"))
	if d.Dynamic || !d.Setuptools || len(d.Requires) != 1 || d.BuildRequires != nil {
		t.Errorf("%+v", d)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a-1-py3-none-any.whl": "no zip", "a-1.tar.gz": "no gzip", "a-1.zip": "no zip", "a-1.tar": strings.Repeat("x", 1024)} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Read(file)
		if err == nil || d == nil || d.Known || d.Name != "a" {
			t.Errorf("%s: %+v %v", name, d, err)
		}
	}
	for _, name := range []string{"a.whl", "a-1-py3.whl", "a.tar.gz", "a.txt"} {
		if d, err := Read(filepath.Join(dir, name)); err == nil || d != nil && d.Name != "" {
			t.Errorf("%s: %+v %v", name, d, err)
		}
	}
	file := makeWheel(t, dir, "b-1-py3-none-any.whl")
	if err := os.Rename(file, filepath.Join(dir, "c-1-py3-none-any.whl")); err != nil {
		t.Fatal(err)
	}
	if d, err := Read(filepath.Join(dir, "c-1-py3-none-any.whl")); err == nil || d.Known {
		t.Errorf("another project's metadata: %+v", d)
	}
}

func TestRequirementRefuses(t *testing.T) {
	for _, text := range []string{"", "-x", "a >", "a==", "a; b", "a; python_version", `a; "x" ? "y"`, `a; (python_version > "3"`, "a b", `a; extra == "x`, "a; " + strings.Repeat("(", 1000)} {
		if r, err := ParseRequirement(text); err == nil {
			t.Errorf("%q: %+v", text, r)
		}
	}
	for _, text := range []string{"a", "a @ https://h/x ; python_version > '3'", "a[b]~=1.2,!=1.3.*", "a (>=1)", `a;os.name=="nt" and (extra == 'b' or "linux" in sys_platform)`, `a; sys_platform not in "win32 cygwin"`} {
		if _, err := ParseRequirement(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestMarkers(t *testing.T) {
	known := Markers{"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64"}
	for _, c := range []struct {
		marker       string
		known, blind truth
	}{
		{"", yes, yes},
		{`python_version >= "3.8"`, yes, maybe},
		{`python_version < "3.10"`, no, maybe},
		{`python_version < "3"`, no, no},
		{`python_version >= "3.6"`, yes, yes},
		{`python_version == "2.7"`, no, no},
		{`python_version == "2.7.*"`, no, maybe},
		{`"3.8" <= python_version`, yes, maybe},
		{`python_version in "3.10 3.11"`, yes, maybe},
		{`python_full_version < "3.11.1"`, no, maybe},
		{`sys_platform == "win32"`, no, no},
		{`platform_system != "Windows"`, yes, yes},
		{`sys_platform == "linux"`, yes, maybe},
		{`"lin" in sys_platform`, yes, maybe},
		{`os_name == "nt"`, no, no},
		{`platform_machine not in "arm64 aarch64"`, yes, maybe},
		{`sys_platform == "win32" and python_version > "3"`, no, no},
		{`sys_platform == "win32" or python_version >= "3"`, yes, yes},
		{`(sys_platform == "win32" or os_name == "nt") and extra == "x"`, no, no},
		{`extra == "X"`, yes, yes},
		{`extra == "y"`, no, no},
		{`nonsense`, maybe, maybe},
		{`implementation_name == "cpython"`, maybe, maybe},
	} {
		if got := evalMarker(c.marker, known, []string{"x"}); got != c.known {
			t.Errorf("%s: %d, want %d", c.marker, got, c.known)
		}
		if got := evalMarker(c.marker, nil, []string{"x"}); got != c.blind {
			t.Errorf("%s on an unknown node: %d, want %d", c.marker, got, c.blind)
		}
	}
}

func TestFits(t *testing.T) {
	p := &Python{Version: "3.11.2", Implementation: "cp", ABIs: []string{"cp311"}, Platforms: []string{"manylinux_2_36_x86_64", "manylinux2014_x86_64", "linux_x86_64"}}
	for tags, want := range map[string]bool{
		"py3-none-any": true, "py2.py3-none-any": true, "py311-none-any": true, "py312-none-any": false, "py2-none-any": false,
		"cp311-cp311-manylinux2014_x86_64": true, "cp311-cp311-manylinux2014_aarch64": false, "cp38-abi3-linux_x86_64": true, "cp312-abi3-linux_x86_64": false,
		"cp310-cp310-linux_x86_64": false, "cp311-none-any": true, "cp311-none-linux_x86_64": true, "py3-none-linux_x86_64": true, "py3-none-macosx_11_0_arm64": false,
	} {
		_, _, list, err := wheelName("a-1-" + tags + ".whl")
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(list, p.Fits); got != want {
			t.Errorf("%s: %t", tags, got)
		}
	}
}

func TestRequirementsFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"r.txt": "# all\nhello==1.0 \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd  # two\n-r sub/more.txt\n-c c.txt\n./a-1-py3-none-any.whl\n--no-binary x\nbroken ===\n",
		"c.txt": "greet<2\n", "sub/more.txt": "more ; python_version > '3'\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := ReadRequirements(filepath.Join(dir, "r.txt"))
	if err != nil || len(f.Requirements) != 2 || f.Requirements[0].String() != "hello==1.0" || len(f.Constraints) != 1 || !f.Hashes || len(f.Paths) != 1 {
		t.Errorf("%+v %v", f, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "c.txt"), []byte("-r r.txt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRequirements(filepath.Join(dir, "r.txt")); err == nil || !strings.Contains(err.Error(), "too deeply") {
		t.Error(err)
	}
}

func FuzzRequirement(f *testing.F) {
	for _, text := range []string{"a", "a[b,c]>=1,<2 ; python_version > '3' and (extra == \"x\" or os_name != 'nt')", "a @ file:///x", "a (==1.*)"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRequirement(text)
		if err != nil {
			return
		}
		if r.Name != Normalize(r.Name) {
			t.Errorf("%q: name %q", text, r.Name)
		}
		evalMarker(r.Marker, nil, nil)
	})
}
