package bundle

import (
	"sort"
	"strconv"
	"strings"
	"time"

	"bundlefs/internal/remote"
)

// BundlefsArgs are the arguments with which bundlefs mounts dir of a node: the
// connection is made from the same target as conc's own, so that both always
// reach the same node in the same way.
func BundlefsArgs(t remote.Target, dir, mountpoint string, options ...string) []string {
	host := t.Host
	if strings.Contains(host, ":") { // an IPv6 address: the brackets keep it apart from the folder
		host = "[" + host + "]"
	}
	if t.User != "" {
		host = t.User + "@" + host
	}
	args := []string{host + ":" + dir, mountpoint}
	if t.Port != 0 {
		args = append(args, "-p", strconv.Itoa(t.Port))
	}
	if t.Config != "" {
		args = append(args, "-F", t.Config)
	}
	if t.IdentityFile != "" {
		args = append(args, "-o", option("IdentityFile", t.IdentityFile))
	}
	if t.Jump != "" {
		args = append(args, "-o", option("ProxyJump", t.Jump))
	}
	if t.Timeout > 0 { // in whole seconds
		args = append(args, "-o", option("ConnectTimeout", strconv.Itoa(int((t.Timeout+time.Second-1)/time.Second))))
	}
	words := make([]string, 0, len(t.Options))
	for w := range t.Options {
		words = append(words, w)
	}
	sort.Strings(words)
	for _, w := range words {
		args = append(args, "-o", option(w, t.Options[w]))
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	return args
}

// option writes one -o argument: commas part options, a backslash takes the
// meaning from what follows it.
func option(word, value string) string {
	return word + "=" + strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(value)
}

// mountOptions are the options with which a bundle is mounted, apart from the
// connection: the one place that decides how bundles are mounted. The token comes on standard input.
func (st *State) mountOptions() []string {
	list := []string{option("fsname", st.source()), "exclusive=-"}
	if st.MountPoint == None {
		list = append(list, "nomount")
	}
	return list
}
