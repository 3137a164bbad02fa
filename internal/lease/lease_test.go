package lease

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	broken := errors.New("link is down")
	for _, c := range []struct {
		name   string
		record string
		err    error
		want   error
	}{
		{name: "ours", record: `{"token":"abc","user":"u"}`},
		{name: "another's", record: `{"token":"abd"}`, want: ErrNotOurs},
		{name: "no token", record: `{}`, want: ErrNotOurs},
		{name: "garbage", record: "\x00", want: ErrNotOurs},
		{name: "gone", err: fs.ErrNotExist, want: ErrNotOurs},
		{name: "not known", err: broken, want: broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Check("abc", func(name string) ([]byte, error) {
				if name != RecordName {
					t.Errorf("reads %s", name)
				}
				return []byte(c.record), c.err
			})
			if !errors.Is(err, c.want) || errors.Is(err, ErrNotOurs) != (c.want == ErrNotOurs) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestSpool(t *testing.T) {
	one := Spool("/cache", "abc")
	if one != Spool("/cache", "abc") || one == Spool("/cache", "abd") {
		t.Error("a spool is not its token's")
	}
	if !strings.HasPrefix(one, "/cache/bundlefs/spool-") || strings.Contains(one, "abc") {
		t.Errorf("got %s", one)
	}
}
