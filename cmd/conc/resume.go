package main

import (
	"fmt"
	"slices"
	"strings"

	"bundlefs/internal/journal"
	"bundlefs/ops"
)

// stepLines are the steps as the journal keeps them, to tell whether a list was changed.
func stepLines(steps []ops.Step) []string {
	lines := make([]string, len(steps))
	for i, s := range steps {
		lines[i] = s.Name + " = " + stepText(s)
	}
	return lines
}

// resumeFrom gives the step after the last one that was OK in the list's last
// run on the node.
func (s *session) resumeFrom(list string, steps []ops.Step) (string, error) {
	ours := ofFile(s.file.Path())
	events, err := s.app.journal.Read(func(e *journal.Event) bool {
		return ours(e.Deploy) && e.Node == s.node.Name && e.List == list
	})
	if err != nil {
		return "", err
	}
	start := -1
	for i, e := range events {
		if e.Kind == journal.RunStart && e.Steps != nil {
			start = i
		}
	}
	if start < 0 {
		return "", &blockedError{fmt.Errorf("%s: there is no run of %s to go on with", s.node.Name, list), "start it without --resume"}
	}
	last := events[start]
	if now := stepLines(steps); !slices.Equal(last.Steps, now) {
		return "", &blockedError{fmt.Errorf("%s: %s has changed since its last run:\n%s", s.node.Name, list, difference(last.Steps, now)),
			"name the step to go on with: --from STEP"}
	}
	next := last.Step // the run's first
	lock := last.Lock
	for _, e := range events[start+1:] {
		if e.Run != last.Run {
			continue
		}
		lock = e.Lock
		i := slices.IndexFunc(steps, func(x ops.Step) bool { return x.Name == e.Step })
		switch {
		case e.Kind == journal.End && e.Status == ops.OK.String() && i >= 0:
			if next = ""; i+1 < len(steps) {
				next = steps[i+1].Name
			}
		case e.Kind == journal.End || e.Kind == journal.RunEnd && e.Status != ops.OK.String():
			next = e.Next
		}
	}
	if next == "" {
		return "", &blockedError{fmt.Errorf("%s: the last run of %s came to its end: there is nothing to go on with", s.node.Name, list), "start it without --resume"}
	}
	i := slices.IndexFunc(steps, func(x ops.Step) bool { return x.Name == next })
	if now := journal.LockID(s.bundle.Token()); now != lock && !(i >= 0 && opens(steps[i:])) {
		what := "closed and opened again"
		if now == "" {
			what = "closed"
		}
		return "", &blockedError{fmt.Errorf("%s: bundle %s was %s since the last run of %s, which halted before %s: what was delivered is gone", s.node.Name, s.dir, what, list, next),
			"start it without --resume, or name the step to go on with: --from STEP"}
	}
	return next, nil
}

// difference shows what was removed (-) and added (+), line by line.
func difference(old, now []string) string {
	// common[i][j] is the length of the longest common part of old[i:] and now[j:].
	common := make([][]int, len(old)+1)
	for i := range common {
		common[i] = make([]int, len(now)+1)
	}
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(now) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); old[i] == now[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var lines []string
	i, j := 0, 0
	for i < len(old) || j < len(now) {
		switch {
		case i < len(old) && j < len(now) && old[i] == now[j]:
			i, j = i+1, j+1
		case i < len(old) && (j == len(now) || common[i+1][j] >= common[i][j+1]):
			lines = append(lines, "- "+old[i])
			i++
		default:
			lines = append(lines, "+ "+now[j])
			j++
		}
	}
	return strings.Join(lines, "\n")
}
