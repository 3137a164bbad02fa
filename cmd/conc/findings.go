package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/bundle"
	"bundlefs/internal/deploy"
	"bundlefs/internal/mountpoint"
	"bundlefs/ops"
)

// node tells of the node, as its survey has it; need are the steps that need sudo.
func (c *checking) node(found *ops.Survey, steps []ops.Step, need []string) {
	c.python(found, steps)
	if len(need) > 0 {
		c.sudo(found, need)
	}
	if tools := append(slices.Clone(found.Tools), found.Headers); strings.Join(tools, "") != "" {
		c.add("WARN", "build tools", "a node that is deployed to needs none: wheel steps build on the workstation", "on the node: %s", strings.TrimSpace(strings.Join(tools, " ")))
	} else {
		c.ok("build tools", "none on the node, and none are needed")
	}
}

func (c *checking) python(found *ops.Survey, steps []ops.Step) {
	c.ok("python", "%s is Python %s", found.Executable, found.Python.Version)
	has := func(op, option string) bool {
		return slices.ContainsFunc(steps, func(s ops.Step) bool {
			return s.Op == op && (option == "" || slices.Contains(s.Args, option))
		})
	}
	if has("venv", "") && !slices.Contains(found.Modules, "venv") {
		c.add("FAIL", "python", "install python3-venv on the node", "it has no module venv, which the venv step needs")
	}
	if has("venv", "--with-pip") && !slices.Contains(found.Modules, "ensurepip") {
		c.add("FAIL", "python", "install python3-venv on the node, or leave --with-pip out and deliver a wheel of pip", "it has no module ensurepip, which venv --with-pip needs")
	}
	if slices.ContainsFunc(steps, func(s ops.Step) bool {
		return s.Op == "venv" && !slices.Contains(s.Args, "--keep") && !slices.Contains(s.Args, "--clear")
	}) && found.Venv == "folder" && found.VenvPython {
		c.add("WARN", "venv", "give each release a venv of its own, or the step --keep or --clear", "there is a virtual environment at %s already", c.s.node.Venv())
	}
}

// maxSkew is how far the clocks may be apart before it is told.
const maxSkew = 5 * time.Second

func (c *checking) clock(found *ops.Survey, asked, answered time.Time) {
	node := time.UnixMicro(int64(found.Time * 1e6))
	var skew time.Duration
	switch {
	case node.Before(asked):
		skew = node.Sub(asked)
	case node.After(answered):
		skew = node.Sub(answered)
	}
	if skew.Abs() > maxSkew {
		c.add("WARN", "clock", "set the clock of the node or of this workstation", "the node's clock is %s off", skew.Round(time.Second))
		return
	}
	c.ok("clock", "agrees within %s", max(answered.Sub(asked), time.Second).Round(time.Second))
}

// spare is what is wanted on a disk beside the artifacts.
const spare = 16 << 20

// space tells whether there is room for what is delivered.
func (c *checking) space(found *ops.Survey, bytes int64, files int) {
	for _, name := range []string{"home", "venv", "tmp"} {
		s, ok := found.Space[name]
		if !ok {
			continue
		}
		// Unpacked and compiled, what is installed takes several times its size.
		need := map[string]int64{"home": bytes + spare, "venv": 6*bytes + spare, "tmp": spare}[name]
		switch {
		case !s.Writable:
			c.add("FAIL", "disk", "mount it writable, or mend its owner and mode", "%s (%s) is not writable", s.Path, name)
		case s.Free < uint64(need):
			c.add("FAIL", "disk", "make room there", "%s (%s) has %d MiB free, about %d MiB are needed", s.Path, name, s.Free>>20, need>>20)
		case s.AllInodes > 0 && s.Inodes < uint64(files)+1000:
			c.add("FAIL", "disk", "remove files there", "%s (%s) has room for %d more files only", s.Path, name, s.Inodes)
		case s.NoExec && name != "tmp":
			c.add("FAIL", "disk", "mount it without noexec, or put the venv elsewhere", "%s (%s) is mounted noexec: a virtual environment cannot be run there", s.Path, name)
		default:
			c.ok("disk", "%s (%s) has %d MiB free", s.Path, name, s.Free>>20)
		}
	}
}

// sudoNeed names the steps that need sudo, in all job lists of the node, as LIST STEP.
func (c *checking) sudoNeed() []string {
	var need []string
	for _, list := range c.s.file.JobLists() {
		steps, err := c.s.steps(list)
		if err != nil {
			continue // a list that this node has not got the attributes for
		}
		for i := range steps {
			if steps[i].Op == "sudo" || steps[i].NeedsSudo() {
				need = append(need, list+" "+steps[i].Name)
			}
		}
	}
	return need
}

// sudo tells of sudo, which the steps need that are named.
func (c *checking) sudo(found *ops.Survey, need []string) {
	who := "step " + need[0]
	if len(need) > 1 {
		who += fmt.Sprintf(" and %d more", len(need)-1)
	}
	switch found.Sudo.State {
	case "free", "root":
		c.ok("sudo", "needs no password, for %s", who)
	case "asks":
		c.ok("sudo", "asks for a password, or is not allowed to this user: conc asks for it before the first step, for %s", who)
	case "timeout":
		c.add("WARN", "sudo", "look at sudo's name look-ups and PAM on the node", "sudo does not answer, which %s needs", who)
	default:
		c.add("FAIL", "sudo", "install sudo on the node, or leave the sudo steps out", "it is not on the node, and %s needs it", who)
	}
}

// workstation looks at this side.
func (c *checking) workstation(ctx context.Context) {
	if c.s.node.MountPoint() != bundle.None {
		f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
		if err == nil {
			f.Close()
		}
		_, helper := mountpoint.Fusermount()
		if os.Geteuid() == 0 { // who does without
			helper = nil
		}
		c.fuse(err, helper)
	}
	steps, err := c.s.steps(deploy.Install)
	if err != nil {
		return // told later
	}
	if slices.ContainsFunc(steps, func(s ops.Step) bool { return s.Op == "wheel" }) {
		if path, err := exec.LookPath("python3"); err != nil {
			c.add("FAIL", "workstation", "install python3 here", "a wheel step needs python3, which is not on the PATH")
		} else {
			c.ok("workstation", "%s builds wheels", path)
		}
	}
	bytes, _ := ops.DeliverySize(ctx, c.s.env(), steps)
	var st unix.Statfs_t
	if dir, err := os.UserHomeDir(); err == nil && unix.Statfs(dir, &st) == nil {
		free := st.Bavail * uint64(st.Bsize)
		if free < uint64(bytes+spare) {
			c.add("FAIL", "workstation", "make room there", "%s has %d MiB free, the spool may need %d MiB", dir, free>>20, (bytes+spare)>>20)
		} else {
			c.ok("workstation", "%s has %d MiB free for the spool", dir, free>>20)
		}
	}
}

// fuse tells whether bundles can be mounted here: where not, they are delivered to all the same.
func (c *checking) fuse(device, helper error) {
	const without = "; conc delivers without a mount, as with 'mount = none'"
	switch {
	case device != nil:
		c.add("WARN", "FUSE", "to have a mount, load the module (modprobe fuse) and open the device to this user", "%v%s", device, without)
	case helper != nil:
		c.add("WARN", "FUSE", "to have a mount, install fuse3 on this workstation", "fusermount3 is not to be found%s", without)
	default:
		c.ok("FUSE", "/dev/fuse can be used")
	}
}
