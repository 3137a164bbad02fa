package mountprog

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

var update = flag.Bool("update", false, "write docs/man")

// TestManual keeps the manual page in step with the tables that it is made from.
func TestManual(t *testing.T) {
	const file = "../../docs/man/bundlefs.1"
	page := md2man.Render([]byte(Manual()))
	if *update {
		if err := os.WriteFile(file, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, page) {
		t.Errorf("%s is not made from the present tables: go test ./internal/mountprog -run Manual -update", file)
	}
	for _, o := range options {
		if !bytes.Contains(page, bytes.ReplaceAll([]byte(o.name), []byte("-"), []byte(`\-`))) {
			t.Errorf("%s is not in the manual", o.name)
		}
	}
}
