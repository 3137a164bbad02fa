package junit

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "report.xml")
	suites := []Suite{{Name: "node1", Start: time.Unix(0, 0), Cases: []Case{
		{ID: "a.B.test_c", Elapsed: 1500 * time.Millisecond},
		{ID: "a.B.test_d", Failure: &Problem{"1 != 2 \x1b[31m & <x>", "line\x00s\nof it ]]>"}, Output: "\x07"},
		{ID: "setUpClass (a.B)", Error: &Problem{Message: "broken"}},
		{ID: "a.B.test_e", Skipped: &Problem{Message: "not here"}},
	}}}
	for range 2 { // again, over the first
		if err := Write(file, suites); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Suites []suiteXML `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &back); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	s := back.Suites[0]
	if s.Name != "node1" || s.Tests != 4 || s.Failures != 1 || s.Errors != 1 || s.Skipped != 1 || s.Time != "1.500" {
		t.Errorf("%+v", s)
	}
	if c := s.Cases[0]; c.Class != "a.B" || c.Name != "test_c" || c.Time != "1.500" {
		t.Errorf("%+v", c)
	}
	if c := s.Cases[1]; c.Failure.Message != "1 != 2 \ufffd[31m & <x>" || !strings.Contains(c.Failure.Text, "]]>") || c.Output != "\ufffd" {
		t.Errorf("%+v %+v", c, c.Failure)
	}
	if c := s.Cases[2]; c.Class != "" || c.Name != "setUpClass (a.B)" || c.Error.Message != "broken" {
		t.Errorf("%+v", c)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Error(entries, err)
	}
	if err := Write(filepath.Join(dir, "none", "report.xml"), suites); err == nil {
		t.Error("no error for a folder that does not exist")
	}
}
