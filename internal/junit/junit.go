// Package junit writes test results as the XML that CI systems read. There is
// no standard; this is the part that Jenkins, GitLab and GitHub's readers share:
// a testsuites element with a testsuite for each node, and in it a testcase for each test.
package junit

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Case is a test. At most one of Failure, Error and Skipped is set.
type Case struct {
	ID      string // dotted: what is before the last dot is its class
	Elapsed time.Duration
	Failure *Problem
	Error   *Problem
	Skipped *Problem
	Output  string
}

// Problem is why a test is not OK.
type Problem struct {
	Message string // one line
	Text    string // the traceback
}

// Suite is the tests of a node.
type Suite struct {
	Name  string
	Start time.Time
	Cases []Case
}

type problemXML struct {
	Message string `xml:"message,attr,omitempty"`
	Text    string `xml:",chardata"`
}

type caseXML struct {
	Class   string      `xml:"classname,attr"`
	Name    string      `xml:"name,attr"`
	Time    string      `xml:"time,attr"`
	Failure *problemXML `xml:"failure"`
	Error   *problemXML `xml:"error"`
	Skipped *problemXML `xml:"skipped"`
	Output  string      `xml:"system-out,omitempty"`
}

type suiteXML struct {
	Name     string    `xml:"name,attr"`
	Tests    int       `xml:"tests,attr"`
	Failures int       `xml:"failures,attr"`
	Errors   int       `xml:"errors,attr"`
	Skipped  int       `xml:"skipped,attr"`
	Time     string    `xml:"time,attr"`
	Start    string    `xml:"timestamp,attr"`
	Cases    []caseXML `xml:"testcase"`
}

// Encode gives the XML. Characters that XML cannot have become U+FFFD.
func Encode(suites []Suite) ([]byte, error) {
	root := struct {
		XMLName xml.Name   `xml:"testsuites"`
		Suites  []suiteXML `xml:"testsuite"`
	}{}
	for _, s := range suites {
		out := suiteXML{Name: s.Name, Tests: len(s.Cases), Start: s.Start.UTC().Format("2006-01-02T15:04:05")}
		var total time.Duration
		for _, c := range s.Cases {
			class, name := "", c.ID
			if i := strings.LastIndexByte(c.ID, '.'); i >= 0 && !strings.Contains(c.ID, " ") {
				class, name = c.ID[:i], c.ID[i+1:]
			}
			total += c.Elapsed
			for problem, count := range map[*Problem]*int{c.Failure: &out.Failures, c.Error: &out.Errors, c.Skipped: &out.Skipped} {
				if problem != nil {
					*count++
				}
			}
			out.Cases = append(out.Cases, caseXML{class, name, seconds(c.Elapsed), inXML(c.Failure), inXML(c.Error), inXML(c.Skipped), c.Output})
		}
		out.Time = seconds(total)
		root.Suites = append(root.Suites, out)
	}
	body, err := xml.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode test results: %w", err)
	}
	return append([]byte(xml.Header), append(body, '\n')...), nil
}

func inXML(p *Problem) *problemXML {
	if p == nil {
		return nil
	}
	return &problemXML{p.Message, p.Text}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// Write puts the XML into a file, which is replaced whole or not at all.
func Write(file string, suites []Suite) (err error) {
	data, err := Encode(suites)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return fmt.Errorf("write test results: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if e := f.Chmod(0o644); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write test results: %w", err)
	}
	return nil
}
