// Package version knows which build this is, for every program of the module.
package version

import "runtime/debug"

// version is set by the linker: -ldflags "-X bundlefs/internal/version.version=1.2.3".
var version string

// String is the version of this build: what the linker was given, else the version of the
// module it was installed as, else "devel" with the commit it was built from, where known.
func String() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return fromBuild(info)
}

func fromBuild(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	v := "devel"
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && s.Value != "":
			v += "-" + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			v += "+changed"
		}
	}
	return v
}
