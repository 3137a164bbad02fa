package version

import (
	"runtime/debug"
	"testing"
)

func TestString(t *testing.T) {
	for want, info := range map[string]debug.BuildInfo{
		"v1.2.3": {Main: debug.Module{Version: "v1.2.3"}},
		"devel":  {Main: debug.Module{Version: "(devel)"}},
		"devel-0123456789ab+changed": {Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}}},
		"devel-abc": {Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "false"}}},
	} {
		if got := fromBuild(&info); got != want {
			t.Errorf("%+v: %s, want %s", info, got, want)
		}
	}
	defer func(v string) { version = v }(version)
	version = ""
	if String() == "" {
		t.Error("no version without the linker's")
	}
	version = "9.8"
	if String() != "9.8" {
		t.Errorf("%s, want the linker's", String())
	}
}
