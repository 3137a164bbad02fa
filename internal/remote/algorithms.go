package remote

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// algorithms are those of Ciphers, MACs and KexAlgorithms; what is not given stays
// the library's choice.
func (r *reader) algorithms() ssh.Config {
	secure, insecure := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	var defaults ssh.Config
	defaults.SetDefaults()
	return ssh.Config{
		Ciphers:      r.algorithmList("Ciphers", defaults.Ciphers, slices.Concat(secure.Ciphers, insecure.Ciphers)),
		MACs:         r.algorithmList("MACs", defaults.MACs, slices.Concat(secure.MACs, insecure.MACs)),
		KeyExchanges: r.algorithmList("KexAlgorithms", defaults.KeyExchanges, slices.Concat(secure.KeyExchanges, insecure.KeyExchanges)),
	}
}

// hostKeyAlgorithms are those of HostKeyAlgorithms; nil when it is not given. By default SHA-1
// is left out, as OpenSSH does.
func (r *reader) hostKeyAlgorithms() []string {
	secure, insecure := ssh.SupportedAlgorithms().HostKeys, ssh.InsecureAlgorithms().HostKeys
	return r.algorithmList("HostKeyAlgorithms", secure, slices.Concat(secure, insecure))
}

// algorithmList reads a list as ssh_config has it: it replaces the defaults, or with
// + adds to them, with - takes from them what its patterns match, with ^ comes before
// them. Names that are not known are left out, since a file may be written for other
// programs, too; when none is left it is an error.
func (r *reader) algorithmList(key string, defaults, known []string) []string {
	o, ok := r.get(key)
	if !ok {
		return nil
	}
	how, list := byte(0), o.val
	if list != "" && strings.IndexByte("+-^", list[0]) >= 0 {
		how, list = list[0], list[1:]
	}
	var named []string
	for pattern := range strings.SplitSeq(list, ",") {
		for _, name := range known {
			if match, err := path.Match(pattern, name); err == nil && match && !slices.Contains(named, name) {
				named = append(named, name)
			}
		}
	}
	isNamed := func(name string) bool { return slices.Contains(named, name) }
	others := slices.DeleteFunc(slices.Clone(defaults), isNamed)
	switch how {
	case '+':
		named = append(others, named...)
	case '-':
		named = others
	case '^':
		named = append(named, others...)
	}
	if len(named) == 0 {
		r.fail(o.errorf(key, "%q leaves nothing that is supported here: %s", o.val, fmt.Sprintf("choose from %s", strings.Join(known, ", "))))
	}
	return named
}
