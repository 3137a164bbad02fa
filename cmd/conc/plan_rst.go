package main

import (
	"strings"

	"bundlefs/ops"
)

// manualOf is a job list as reStructuredText: a section for the list, and one for each step.
func manualOf(j *job) []string {
	lines := heading(j.list+" on "+j.s.node.Name, '=')
	lines = append(lines, rstText(j.s.node.Name)+" runs these steps in their order, and halts at the first that is not OK.", "")
	for _, step := range j.steps {
		lines = append(lines, heading(step.Name, '-')...)
		where := "On the node::"
		if step.Host == ops.Local {
			where = "On the workstation::"
		}
		lines = append(lines, where, "", "    "+stepText(step), "")
		if step.Timeout > 0 {
			lines = append(lines, "It may take "+step.Timeout.String()+".", "")
		}
		lines = append(lines, "By hand::", "")
		for line := range strings.SplitSeq(ops.Explain(step, *j.env), "\n") {
			lines = append(lines, strings.TrimRight("    "+line, " "))
		}
		lines = append(lines, "")
	}
	return lines[:len(lines)-1]
}

// heading is a title with its underline, which is as wide as the widest characters could make the title.
func heading(title string, mark byte) []string {
	text := rstText(title)
	return []string{text, strings.Repeat(string(mark), 2*len([]rune(text))), ""}
}

// rstText escapes what is markup in reStructuredText.
func rstText(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strings.ContainsRune("\\`*_|<>:[]{}()#+-.=~^\"'", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
