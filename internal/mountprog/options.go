package mountprog

import (
	"fmt"
	"strings"
)

// setOptions applies one -o argument.
func (m *mountConfig) setOptions(list string) error {
	words, err := splitOptions(list)
	if err != nil {
		return fmt.Errorf("-o %s: %w", list, err)
	}
	for _, w := range words {
		if err := m.setOption(w); err != nil {
			return err
		}
	}
	return nil
}

// splitOptions splits at commas; a backslash takes the meaning from what follows it.
func splitOptions(list string) ([]string, error) {
	var words []string
	var b strings.Builder
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && i+1 == len(list):
			return nil, fail(`write \\ for a backslash`, "nothing follows the last backslash")
		case c == '\\':
			i++
			b.WriteByte(list[i])
		case c == ',':
			words = append(words, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	words = append(words, b.String())
	kept := words[:0]
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return kept, nil
}

func (m *mountConfig) setOption(word string) error {
	name, value, hasValue := strings.Cut(word, "=")
	if strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-") { // for systemd and other readers of fstab (mount(8))
		return nil
	}
	if o := findOption(name); o != nil {
		if err := o.apply(m, value, hasValue); err != nil {
			return o.wrong(word, err)
		}
		return nil
	}
	if w := sshWord(name); w != "" {
		if value == "" {
			return fmt.Errorf("option %s: %w", word, fail(fmt.Sprintf("write %s=VALUE", w), "it needs a value"))
		}
		m.sshOptions = append(m.sshOptions, [2]string{w, value})
		return nil
	}
	if m.sloppy {
		return nil
	}
	return unknownOption(name)
}

// wrong is the error for a word with a value that the option does not take.
func (o *option) wrong(word string, err error) error {
	err = fmt.Errorf("option %s: %w", word, err)
	if hintOf(err) != "" {
		return err
	}
	return fail(fmt.Sprintf("write it as %s; bundlefs -h tells what it does", o.form()), "%w", err)
}

// form is how the option is written.
func (o *option) form() string {
	if o.arg == "" {
		return o.name
	}
	return o.name + "=" + o.arg
}

// findOption looks an option up by any of its names. compression is a word of ssh_config, too,
// and so has any case.
func findOption(name string) *option {
	if strings.EqualFold(name, "compression") {
		name = "compression"
	}
	for i := range options {
		o := &options[i]
		if o.name == name {
			return o
		}
		for _, also := range o.also {
			if also == name {
				return o
			}
		}
	}
	return nil
}

func (o *option) apply(m *mountConfig, value string, hasValue bool) error {
	switch optional := strings.HasPrefix(o.arg, "["); {
	case o.arg == "" && hasValue:
		return fmt.Errorf("it takes no value")
	case o.arg != "" && !hasValue && !optional:
		return fail("write "+o.form(), "it needs a value")
	}
	return o.set(m, value)
}
