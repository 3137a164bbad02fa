package mountprog

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bundlefs/fs"
	"bundlefs/internal/remote"

	"github.com/kballard/go-shellquote"
)

// What the options of the table do with their values.

func ignore(*mountConfig, string) error { return nil }

func on(field func(*mountConfig) *bool) func(*mountConfig, string) error {
	return func(m *mountConfig, _ string) error { *field(m) = true; return nil }
}

func off(field func(*mountConfig) *bool) func(*mountConfig, string) error {
	return func(m *mountConfig, _ string) error { *field(m) = false; return nil }
}

func yesNo(field func(*mountConfig) **bool) func(*mountConfig, string) error {
	return func(m *mountConfig, v string) error {
		if v != "yes" && v != "no" {
			return fmt.Errorf("%q is not yes or no", v)
		}
		yes := v == "yes"
		*field(m) = &yes
		return nil
	}
}

func oneOf(field func(*mountConfig) *string, values ...string) func(*mountConfig, string) error {
	return func(m *mountConfig, v string) error {
		if !slices.Contains(values, v) {
			return fail("choose one of "+strings.Join(values, ", "), "%q is not a value it can have", v)
		}
		*field(m) = v
		return nil
	}
}

func contain(yes bool) func(*mountConfig, string) error {
	return func(m *mountConfig, _ string) error { m.fs.ContainSymlinks = &yes; return nil }
}

func (m *mountConfig) setPort(value string) error { return number(&m.target.Port, value, 1, 65535) }

func (m *mountConfig) setSSHCommand(value string) error {
	words, err := shellquote.Split(value)
	if err != nil {
		return fmt.Errorf("split it into words: %w", err)
	}
	if len(words) == 0 {
		return fmt.Errorf("it needs a value")
	}
	m.sshCommand = words
	return nil
}

func (m *mountConfig) setCompression(value string) error {
	switch value {
	case "yes", "no":
		m.compression = value
		return nil
	}
	return fmt.Errorf("%q is not yes or no", value)
}

func sshProtocol(_ *mountConfig, v string) error {
	if v != "2" {
		return fail("leave the option out", "version %q of SSH is not supported, only 2 is", v)
	}
	return nil
}

// workarounds are those of sshfs.
var workarounds = []string{"none", "all", "rename", "renamexdev", "truncate", "buflimit", "fstat", "createmode", "nodelay", "nodelaysrv"}

func workaround(_ *mountConfig, value string) error {
	for word := range strings.SplitSeq(value, ":") {
		if !slices.Contains(workarounds, word) && !slices.Contains(workarounds, strings.TrimPrefix(word, "no")) {
			return fail("bundlefs -h lists them", "unknown workaround %q", word)
		}
	}
	return nil
}

func modules(_ *mountConfig, v string) error {
	for module := range strings.SplitSeq(v, ":") {
		if module != "subdir" {
			return fail("leave the option out", "there is no module %q", module)
		}
	}
	return nil
}

func utf8Only(_ *mountConfig, v string) error {
	if !strings.EqualFold(v, "UTF-8") && !strings.EqualFold(v, "UTF8") {
		return fail("leave the option out", "names of files are passed on as they are, and not converted from or to %s", v)
	}
	return nil
}

func nonEmpty(v string) error {
	if v == "" {
		return fmt.Errorf("it needs a value")
	}
	return nil
}

func number(to *int, v string, low, high int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return fmt.Errorf("%q is not a number from %d to %d", v, low, high)
	}
	*to = n
	return nil
}

// unusedSeconds takes what must be a number of seconds, and does nothing with it.
func unusedSeconds(_ *mountConfig, v string) error {
	var d *time.Duration
	return seconds(&d, v)
}

// atMost reads the most bytes of a request; there is a limit that none exceeds.
func atMost(to *int, v string) error {
	if err := number(to, v, 4096, 1<<30); err != nil {
		return err
	}
	*to = min(*to, fs.MostRequest)
	return nil
}

func id(to **uint32, v, tells string) error {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == 1<<32-1 {
		return fail("write the number; "+tells+" "+remote.Quote(v)+" tells that of a name", "%q is not a numeric id", v)
	}
	u := uint32(n)
	*to = &u
	return nil
}

func umask(to **uint32, v string) error {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%q is not an octal number from 0 to 777", v)
	}
	u := uint32(n)
	*to = &u
	return nil
}

// seconds reads a number of seconds, which may have a fraction.
func seconds(to **time.Duration, v string) error {
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || !(n >= 0 && n <= 1e9) {
		return fmt.Errorf("%q is not a number of seconds", v)
	}
	d := time.Duration(n * float64(time.Second))
	*to = &d
	return nil
}

func cacheMax(m *mountConfig, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a number of bytes", v)
	}
	if n == 0 {
		n = -1
	}
	m.cacheMax = n
	return nil
}

func spoolMax(m *mountConfig, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number of bytes", v)
	}
	m.spoolMax = n
	return nil
}

// path makes v absolute, since the program leaves its folder; package remote expands ~.
func path(to *string, v string) error {
	if err := nonEmpty(v); err != nil {
		return err
	}
	if !strings.HasPrefix(v, "~") {
		abs, err := filepath.Abs(v)
		if err != nil {
			return err
		}
		v = abs
	}
	*to = v
	return nil
}
