package ops

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/bundle"
)

// bareWheel writes a wheel with nothing but metadata into deploy.ini's folder.
func (s *site) bareWheel(name string, requires ...string) {
	s.t.Helper()
	f, err := os.Create(filepath.Join(s.env.Dir, name+"-1.0-py3-none-any.whl"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	archive := zip.NewWriter(f)
	w, err := archive.Create(name + "-1.0.dist-info/METADATA")
	if err != nil {
		s.t.Fatal(err)
	}
	text := "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\n"
	for _, r := range requires {
		text += "Requires-Dist: " + r + "\n"
	}
	if _, err := w.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func TestLacks(t *testing.T) {
	s := newOffline(t, nil)
	s.bareWheel("app", "lib>=1", "odd; python_version < '3.9'")
	s.bareWheel("lib", "deep")
	s.bareWheel("lone")
	s.write("r.txt", "lone==2.0\n")
	s.write("c.txt", "lone<1\n")
	s.write("all.tar", "")
	for _, stem := range []string{"src-1", "setuptools-66.1.1", "pip-22.3"} {
		name, version, _ := strings.Cut(stem, "-")
		sdist(t, s.env.Dir, stem, project(name, version, ""))
	}
	for name, c := range map[string]struct {
		lines []string
		want  string // a ? marks what is not certain
	}{
		"nothing":        {[]string{"local copy lone*.whl", "remote venv", "remote pip lone*.whl"}, ""},
		"missing":        {[]string{"local copy app*.whl", "remote venv", "remote pip app*.whl"}, "app 1.0 needs lib>=1, and there is none among the artifacts|? app 1.0 needs odd, and there is none among the artifacts"},
		"kept venv":      {[]string{"local copy lib*.whl", "remote venv --keep", "remote pip lib*.whl"}, "? lib 1.0 needs deep, and there is none among the artifacts"},
		"no deps":        {[]string{"local copy lib*.whl", "remote venv", "remote pip --no-deps lib*.whl"}, ""},
		"by a command":   {[]string{"local copy lib*.whl", "remote venv", "remote run ./fetch", "remote pip lib*.whl"}, "? lib 1.0 needs deep, and there is none among the artifacts"},
		"not delivered":  {[]string{"local copy lone*.whl", "remote venv", "remote pip app*.whl"}, "nothing that is delivered matches app*.whl"},
		"in a folder":    {[]string{"local copy lone*.whl --to x", "remote venv", "remote pip lone"}, "there is no lone among the artifacts"},
		"file":           {[]string{"local copy lone*.whl r.txt", "remote venv", "remote pip -r r.txt"}, "there is no lone==2.0 among the artifacts, only lone-1.0-py3-none-any.whl"},
		"constraint":     {[]string{"local copy lone*.whl c.txt", "remote venv", "remote pip lone -c c.txt"}, "there is no lone<1 among the artifacts, only lone-1.0-py3-none-any.whl"},
		"no file":        {[]string{"local copy lone*.whl", "remote venv", "remote pip -r q.txt"}, "the file q.txt is not delivered"},
		"sdist":          {[]string{"local copy src*.tar.gz", "remote venv", "remote pip src"}, "building src-1.tar.gz needs setuptools, and there is none among the artifacts"},
		"wheel of it":    {[]string{"local wheel src*.tar.gz", "remote venv", "remote pip src-*.whl"}, ""},
		"by setup":       {[]string{"local copy *.tar.gz", "remote venv", "remote untar setuptools-*", "remote setup setuptools-*.tar.gz", "remote untar pip-*", "remote setup pip-22.3", "remote pip src-*.tar.gz"}, ""},
		"setup of pip":   {[]string{"local copy pip-*.tar.gz src*.tar.gz", "remote venv", "remote setup pip-22.3", "remote pip src"}, "? building src-1.tar.gz needs setuptools, and there is none among the artifacts"},
		"sdist unpacked": {[]string{"local copy src*.tar.gz lib*.whl", "remote venv", "remote untar src-*", "remote pip lib"}, "lib 1.0 needs deep, and there is none among the artifacts"},
		"other unpacked": {[]string{"local copy all.tar lib*.whl", "remote venv", "remote untar all.tar", "remote pip lib"}, "? lib 1.0 needs deep, and there is none among the artifacts"},
		"after a stop":   {[]string{"local copy app*.whl", "local stop", "remote pip app*.whl"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, l := range Lacks(t.Context(), &s.env, steps(t, c.lines...), nil) {
				text := l.Text
				if !l.Certain {
					text = "? " + text
				}
				if l.Hint == "" || l.Step == "" {
					t.Errorf("%+v", l)
				}
				got = append(got, text)
			}
			if text := strings.Join(got, "|"); text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
	// Nothing is begun.
	r, e := s.run("local copy app*.whl", "remote venv", "remote pip app*.whl")
	want(t, r, Blocked, "step s3: app 1.0 needs lib>=1", "deliver a wheel or sdist of lib", "nothing was begun")
	if len(e.started) > 0 {
		t.Errorf("begun: %v", e.started)
	}
}

// What is in the bundle already counts.
func TestLacksKnowsTheBundle(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := newCopySite(t)
	s.bareWheel("app", "lib>=1")
	s.bareWheel("lib")
	want(t, first(s.run("local copy *.whl")), OK)
	list := steps(t, "remote venv", "remote pip app*.whl", "remote pip lib")
	if got := Lacks(t.Context(), &s.env, list, nil); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	if got := Advice(t.Context(), &s.env, list); len(got) != 1 || got[0].Step != "s3" || !strings.Contains(got[0].Text, "another pip step") {
		t.Errorf("%+v", got)
	}
	// So it does without a mount, up to the files that a requirements file includes.
	s.write("r.txt", "-r more.txt\n")
	s.write("more.txt", "app\nother>=2\n")
	want(t, first(s.run("local copy *.txt")), OK)
	s.bundle.health = bundle.HealthServed
	s.env.Bundle = unmounted{s.bundle}
	if got := Lacks(t.Context(), &s.env, list, nil); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	got := Lacks(t.Context(), &s.env, steps(t, "remote venv", "remote pip -r r.txt"), nil)
	if len(got) != 1 || !got[0].Certain || !strings.Contains(got[0].Text, "no other>=2") {
		t.Errorf("%+v", got)
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "conc-artifacts-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	s.env.Bundle = s.bundle
	s.bundle.health = bundle.HealthNone // open, and nobody can look into it
	if got := Lacks(t.Context(), &s.env, list, nil); len(got) == 0 || got[0].Certain {
		t.Errorf("%+v", got)
	}
}
