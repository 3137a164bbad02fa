package bench

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// python is the node's, whose pip and setuptools are in pythonWheels.
const python = "/usr/bin/python3"

// patienceAfter is how long what is done after a measurement may take.
const patienceAfter = time.Minute

// deployment is one deploy by one peer, from lock to unlock: into dir/venv, with dir/bundle as the lock.
type deployment struct {
	cmd  *exec.Cmd
	undo *exec.Cmd // ends what the command, or its failure, leaves running; nil for nothing
}

// deployWorks are the deploys of wheels, and of the same projects as sdists.
func deployWorks(s sizes) []*work {
	check := func(b *bench, t string) error { return b.deployed(filepath.Dir(t)) }
	return []*work{
		{
			name: "deploy", title: fmt.Sprintf("deploy %d wheels, pip and setuptools into a fresh venv, from lock to unlock", s.wheels), trips: 9 * s.wheels,
			deploys: map[string]func(b *bench, dir string) (deployment, error){
				ours: func(b *bench, dir string) (deployment, error) { return b.byConc(dir, "copy wheels/*.whl") },
				"tar": func(b *bench, dir string) (deployment, error) {
					remote := "mkdir " + dir + "/bundle && tar xf - -C " + dir + "/bundle && " + installLine(dir)
					return deployment{cmd: shell(`tar cf - -C "$1" . | ssh -F "$2" node "$3"`, b.tree("deploy/wheels"), b.config, remote)}, nil
				},
				"rsync": func(b *bench, dir string) (deployment, error) {
					return deployment{cmd: shell(`rsync -a -e "ssh -F $2" "$1/" "node:$3/bundle/" && ssh -F "$2" node "$4"`,
						b.tree("deploy/wheels"), b.config, dir, installLine(dir))}, nil
				},
				"ansible": (*bench).byAnsible,
				"fabric":  (*bench).byFabric,
			},
			check: check,
		},
		{
			name: "deploy-list", title: "the same by conc as one job list, from lock to unlock",
			deploys: map[string]func(b *bench, dir string) (deployment, error){
				ours: func(b *bench, dir string) (deployment, error) {
					d, err := b.byConc(dir, "copy wheels/*.whl")
					d.cmd = exec.Command(b.conc, "--file", b.tree("deploy/"+dir+".ini"), "run", "node", "whole")
					return d, err
				},
			},
			check: check,
		},
		{
			name: "deploy-sdist", title: fmt.Sprintf("the same of %d sdists, which were built into wheels before", s.wheels),
			deploys: map[string]func(b *bench, dir string) (deployment, error){
				ours: func(b *bench, dir string) (deployment, error) {
					return b.byConc(dir, "wheel sdists/*.tar.gz wheels/pip-*.whl wheels/setuptools-*.whl")
				},
			},
			check: check,
		},
	}
}

// venvLine and pipLine are what every peer runs on the node, in its home. Pip has the options that conc gives it.
func venvLine(dir string) string { return python + " -m venv --without-pip " + dir + "/venv" }

func pipLine(dir string) string {
	return "cd " + dir + `/bundle && PIP_CONFIG_FILE=/dev/null ../venv/bin/python "$(echo pip-*.whl)/pip" install --isolated --no-index --find-links . ` +
		"--no-cache-dir --no-input --disable-pip-version-check ./probe*.whl"
}

func installLine(dir string) string {
	return venvLine(dir) + " && (" + pipLine(dir) + ") >/dev/null && rm -rf " + dir + "/bundle"
}

// byConc opens, installs and closes: three commands, as an operator types them.
func (b *bench) byConc(dir, deliver string) (deployment, error) {
	file := b.tree("deploy/" + dir + ".ini")
	text := fmt.Sprintf(`[DEFAULT]
bundle = %[1]s/bundle
venv   = %[1]s/venv
python = %[2]s

[node:node]
sshd.ip = node

[jobs:install]
deliver = local  %[3]s
venv    = remote venv
pip     = remote pip probe*.whl

[jobs:whole]
lock    = remote open
folder  = local  open
mount   = local  mount
deliver = local  %[3]s
venv    = remote venv
pip     = remote pip probe*.whl
unmount = local  unmount
unlock  = remote close
remove  = local  close
`, dir, python, deliver)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return deployment{}, err
	}
	return deployment{
		// Here too python is the system's: Debian's setuptools builds with no other.
		cmd: shell(`PATH=$3:$PATH && "$1" --file "$2" open node && "$1" --file "$2" install node && "$1" --file "$2" close node`,
			b.conc, file, filepath.Dir(python)),
		undo: exec.Command(b.conc, "--file", file, "close", "--forget", "node"), // nothing when it is closed
	}, nil
}

// byAnsible runs a playbook, with pipelining, over one connection that is shared and persists.
func (b *bench) byAnsible(dir string) (deployment, error) {
	control := filepath.Join(b.dir, dir+".ssh")
	config := fmt.Sprintf("[defaults]\ninterpreter_python = %s\n[ssh_connection]\npipelining = True\nssh_args = -F %s -o ControlMaster=auto -o ControlPersist=60s -o ControlPath=%s\n",
		python, b.config, control)
	play := fmt.Sprintf(`- hosts: all
  gather_facts: false
  tasks:
    - file: {path: "%[1]s/bundle", state: directory}
    - copy: {src: "%[2]s/", dest: "%[1]s/bundle/"}
    - command: %[3]s
    - shell: %[4]s
    - file: {path: "%[1]s/bundle", state: absent}
`, filepath.Join(b.home, dir), b.tree("deploy/wheels"), venvLine(dir), pipLine(dir))
	at := b.tree("deploy/" + dir)
	err := errors.Join(os.WriteFile(at+".cfg", []byte(config), 0o644), os.WriteFile(at+".yml", []byte(play), 0o644))
	return deployment{
		cmd:  shell(`LC_ALL=C.UTF-8 ANSIBLE_CONFIG="$1.cfg" ansible-playbook -i node, "$1.yml"`, at),
		undo: exec.Command("ssh", "-F", b.config, "-o", "ControlPath="+control, "-O", "exit", "node"),
	}, err
}

const fabfile = `import os
from fabric import task

@task
def deploy(c, place, source, venv, pip):
    c.run("mkdir %s/bundle" % place)
    for name in sorted(os.listdir(source)):
        c.put(os.path.join(source, name), "%s/bundle/%s" % (place, name))
    c.run(venv)
    c.run(pip, hide=True)
    c.run("rm -rf %s/bundle" % place)
`

func (b *bench) byFabric(dir string) (deployment, error) {
	if err := os.WriteFile(b.tree("deploy/fabfile.py"), []byte(fabfile), 0o644); err != nil {
		return deployment{}, err
	}
	return deployment{cmd: exec.Command("fab", "-r", b.tree("deploy"), "-S", b.config, "-H", "node", "deploy",
		"--place", dir, "--source", b.tree("deploy/wheels"), "--venv", venvLine(dir), "--pip", pipLine(dir))}, nil
}

// deployed looks whether all is installed, and the lock gone.
func (b *bench) deployed(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, "bundle")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s/bundle is still there: %v", dir, err)
	}
	var names []string
	for i := range b.o.sizes.wheels {
		names = append(names, project(i))
	}
	const program = `import importlib, sys
for i, name in enumerate(sys.argv[1:]):
    assert importlib.import_module(name).NUMBER == i, name`
	return b.run(exec.Command(filepath.Join(dir, "venv/bin/python"), append([]string{"-I", "-c", program}, names...)...))
}

// deploying makes one deploy.
func (b *bench) deploying(w *work, p *peer, dir string) (s sample, err error) {
	d, err := w.deploys[p.name](b, dir)
	if err != nil {
		return s, err
	}
	defer func() {
		if d.undo != nil {
			b.afterwards(d.undo)
		}
	}()
	started := time.Now()
	err = b.run(d.cmd)
	s.Seconds = time.Since(started).Seconds()
	return s, err
}

// afterwards runs a command also when the measurements were interrupted. Mostly there is nothing left to end, which some say by failing.
func (b *bench) afterwards(cmd *exec.Cmd) {
	b.prepare(cmd)
	if cmd.Start() != nil {
		return
	}
	timeout := time.AfterFunc(patienceAfter, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer timeout.Stop()
	_ = cmd.Wait()
}

// needsConc tells whether a workload is conc's.
func (b *bench) needsConc() bool {
	for _, w := range b.works {
		if w.deploys[ours] != nil {
			return true
		}
	}
	return false
}

// buildConc builds conc as `make build` does, which so has the compiled packages already or finds them afterwards.
func (b *bench) buildConc() error {
	b.conc = filepath.Join(b.dir, "conc")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", b.conc, "bundlefs/cmd/conc")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// warmDeploys has conc find the node as "node", and the wheels of the sdists built.
func (b *bench) warmDeploys() error {
	config, err := os.ReadFile(b.config)
	if err != nil {
		return err
	}
	ssh := filepath.Join(b.dir, ".ssh")
	if err := errors.Join(os.Mkdir(ssh, 0o700), os.WriteFile(filepath.Join(ssh, "config"), config, 0o600)); err != nil {
		return err
	}
	for _, w := range b.works {
		for _, p := range b.peers {
			if w.name == "deploy-sdist" && p.name == ours {
				if _, err := b.once(w, p); err != nil {
					return fmt.Errorf("build the wheels of the sdists: %w", err)
				}
			}
		}
	}
	return nil
}

func project(i int) string { return fmt.Sprintf("probe%02d", i) }

// makeArtifacts makes the wheels and sdists of projects that need nothing, with pip and setuptools beside them.
func makeArtifacts(dir string, projects int) error {
	wheels, sdists := filepath.Join(dir, "wheels"), filepath.Join(dir, "sdists")
	if err := errors.Join(os.MkdirAll(wheels, 0o755), os.MkdirAll(sdists, 0o755)); err != nil {
		return err
	}
	given := os.Getenv("PYTHON_WHEELS")
	if given == "" {
		given = "/usr/share/python-wheels"
	}
	// That of wheel is for building only.
	for pattern, to := range map[string]string{"pip-*.whl": wheels, "setuptools-*.whl": wheels, "wheel-*.whl": sdists} {
		found, err := filepath.Glob(filepath.Join(given, pattern))
		if err != nil {
			return err
		}
		if len(found) == 0 && to == wheels {
			return fmt.Errorf("there is no %s in %s", pattern, given)
		}
		for _, file := range found {
			data, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(filepath.Join(to, filepath.Base(file)), data, 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
	fill := newFiller("deploy")
	for i := range projects {
		sources := moduleSources(fill, i)
		err := errors.Join(
			makeWheel(filepath.Join(wheels, project(i)+"-1.0-py3-none-any.whl"), project(i), sources),
			makeSdist(filepath.Join(sdists, project(i)+"-1.0.tar.gz"), project(i), sources))
		if err != nil {
			return err
		}
	}
	return nil
}

// member is a file of an archive.
type member struct{ name, text string }

// moduleSources is a package of a few modules, about 20 KB when compressed.
func moduleSources(fill filler, number int) []member {
	list := []member{{project(number) + "/__init__.py", fmt.Sprintf("NUMBER = %d\n", number)}}
	for m := range 4 {
		var text strings.Builder
		for line := range 120 {
			fmt.Fprintf(&text, "VALUE_%d = 0x%016x%016x%016x%016x\n", line, fill.Uint64(), fill.Uint64(), fill.Uint64(), fill.Uint64())
		}
		list = append(list, member{fmt.Sprintf("%s/part%d.py", project(number), m), text.String()})
	}
	return list
}

func metadata(name string) string {
	return "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\nSummary: one of many\n"
}

// makeWheel writes a pure-Python wheel (PEP 427).
func makeWheel(path, name string, sources []member) error {
	info := name + "-1.0.dist-info/"
	list := append(sources[:len(sources):len(sources)],
		member{info + "METADATA", metadata(name)},
		member{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"})
	var record strings.Builder
	for _, m := range list {
		sum := sha256.Sum256([]byte(m.text))
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", m.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(m.text))
	}
	fmt.Fprintf(&record, "%sRECORD,,\n", info)
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, m := range append(list, member{info + "RECORD", record.String()}) {
		w, err := archive.Create(m.name)
		if err == nil {
			_, err = io.WriteString(w, m.text)
		}
		if err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// makeSdist writes a source distribution that setuptools builds.
func makeSdist(path, name string, sources []member) error {
	list := append(sources[:len(sources):len(sources)],
		member{"PKG-INFO", metadata(name)},
		member{"pyproject.toml", "[build-system]\nrequires = [\"setuptools\", \"wheel\"]\nbuild-backend = \"setuptools.build_meta\"\n"},
		member{"setup.py", fmt.Sprintf("from setuptools import setup\nsetup(name=%q, version=\"1.0\", packages=[%q])\n", name, name)})
	var out bytes.Buffer
	compressed := gzip.NewWriter(&out)
	archive := tar.NewWriter(compressed)
	for _, m := range list {
		err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name + "-1.0/" + m.name, Mode: 0o644, Size: int64(len(m.text)), ModTime: time.Unix(1_700_000_000, 0)})
		if err == nil {
			_, err = io.WriteString(archive, m.text)
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
