package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"bundlefs/ops"
)

// haltText is in the help of the commands that run job lists.
const haltText = `A run halts at the first step that is not OK, and at a stop step. The bundle
stays open and mounted: mend what is wrong, look around with 'conc shell', and go
on with --from STEP or --resume. Ctrl-C ends the step that runs, on the node too,
with all that it started; a second Ctrl-C leaves at once.

With several nodes, --parallel N works on N at a time, --serial N on batches of N,
of which the next begins when the one before has ended. A node that is not
OK does not stop the others, unless --max-fail N of them are reached: then no
further node is begun. The exit code is the worst.

A sudo password is asked for before the first step, once for each node, and only
if a step needs it and sudo wants one.`

// manyOptions say how to work on several nodes.
type manyOptions struct{ parallel, serial, maxFail int }

func (m *manyOptions) flags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&m.parallel, "parallel", 0, "work on `N` nodes at a time (default: one, or as many as a batch has)")
	cmd.Flags().IntVar(&m.serial, "serial", 0, "work on batches of `N` nodes")
	cmd.Flags().IntVar(&m.maxFail, "max-fail", 0, "begin no further node when `N` were not OK (default: no limit)")
}

func (m *manyOptions) check() error {
	for name, n := range map[string]int{"--parallel": m.parallel, "--serial": m.serial, "--max-fail": m.maxFail} {
		if n < 0 {
			return usagef("give a number of nodes", "%s %d is below 0", name, n)
		}
	}
	if m.parallel == 0 {
		m.parallel = max(1, m.serial)
	}
	return nil
}

// runJobs runs a job list on nodes. Of several, what went wrong with each is shown.
func runJobs(ctx context.Context, a *app, o *runOptions, m manyOptions, sel *selection, list string) error {
	if err := m.check(); err != nil {
		return err
	}
	defer o.sudo.wipe()
	jobs := make([]*job, 0, len(sel.nodes))
	defer func() {
		for _, j := range jobs {
			j.env.Forget()
			j.s.close()
		}
	}()
	for _, n := range sel.nodes { // all of it, before anything is done
		s, err := a.newSession(sel.file, n)
		if err != nil {
			return err
		}
		j, err := s.prepare(o, list)
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	switch {
	case o.dryRun:
		return dryRun(a, o, jobs)
	case len(jobs) == 1:
		_, err := jobs[0].run(ctx)
		return err
	case o.ask && m.parallel > 1:
		return usagef("", "--step works on one node at a time: leave --parallel and --serial out")
	}
	r := &runs{a: a, failed: map[*job]error{}}
	for _, j := range jobs { // before the display begins: it may ask
		err := j.ready() // who cannot begin is not asked for a password
		if err == nil {
			err = j.authorize(ctx)
		}
		if err != nil {
			r.note(j, err)
		}
	}
	if !o.json && !o.ask {
		a.ui.several(nodeNames(sel.nodes))
		defer a.ui.severalEnd()
	}
	size := m.serial
	if size == 0 {
		size = len(jobs)
	}
	for batch := range slices.Chunk(jobs, size) {
		r.batch(ctx, m, batch)
	}
	return r.end(jobs)
}

// runs are the runs on several nodes.
type runs struct {
	a *app

	mu     sync.Mutex // guards what follows
	failed map[*job]error
	begun  int
}

func (r *runs) note(j *job, err error) {
	var run *runError
	if errors.As(err, &run) && len(run.result.Output) > 0 { // other nodes have written since
		r.a.ui.info(j.s.node.Name, run.result.Step, "the last lines of what it wrote:")
		for _, line := range lastLines(run.result) {
			r.a.ui.output(j.s.node.Name, run.result.Step, line)
		}
	}
	r.a.ui.fail(prefixed{j.s.node.Name, err})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed[j] = err
}

// next tells whether the node is to be begun.
func (r *runs) next(ctx context.Context, j *job, m manyOptions) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed[j] != nil {
		return false
	}
	if ctx.Err() != nil || m.maxFail > 0 && len(r.failed) >= m.maxFail {
		r.failed[j] = errNotBegun
		return false
	}
	r.begun++
	return true
}

var errNotBegun = errors.New("not begun")

// batch works on some nodes, and returns when all of them have ended.
func (r *runs) batch(ctx context.Context, m manyOptions, jobs []*job) {
	turns := make(chan struct{}, m.parallel)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, j := range jobs {
		turns <- struct{}{}
		if !r.next(ctx, j, m) {
			<-turns
			continue
		}
		wg.Go(func() {
			defer func() { <-turns }()
			_, err := j.run(ctx)
			r.a.ui.nodeState(j.s.node.Name, statusOf(err))
			if err != nil {
				r.note(j, err)
			}
		})
	}
}

// statusOf is the word for how a run ended.
func statusOf(err error) string {
	var run *runError
	if errors.As(err, &run) {
		return run.result.Status.String()
	}
	return statusWord(err)
}

// end tells how the nodes ended, and gives the worst of it.
func (r *runs) end(jobs []*job) error {
	r.a.ui.severalEnd()
	several := &severalErrors{count: len(jobs)}
	var skipped []string
	for _, j := range jobs {
		err := r.failed[j]
		switch {
		case errors.Is(err, errNotBegun):
			skipped = append(skipped, j.s.node.Name)
			several.codes = append(several.codes, exitBlocked)
			r.a.ui.info(j.s.node.Name, "", "%s: not begun", j.list)
		case err != nil:
			several.codes = append(several.codes, exitCode(err))
			r.a.ui.info(j.s.node.Name, "", "%s: %s", j.list, statusOf(err))
		}
	}
	if len(several.codes) == 0 {
		return nil
	}
	if len(skipped) > 0 {
		several.hint = fmt.Sprintf("not begun: %s", strings.Join(skipped, " "))
	}
	return several
}

// dryRun shows what would run.
func dryRun(a *app, o *runOptions, jobs []*job) error {
	for _, j := range jobs {
		for i, step := range j.chosen {
			if o.json {
				p := planned(j.env, step, i+1)
				if err := a.ui.event(p); err != nil {
					return err
				}
				continue
			}
			if i == 0 {
				a.ui.print(fmt.Sprintf("%s: %s: %d of %d steps would run", j.s.node.Name, j.list, len(j.chosen), len(j.steps)))
			}
			printStep(a, j.env, step, i+1)
		}
		if step := slices.IndexFunc(j.chosen, func(s ops.Step) bool { return s.NeedsSudo() }); step >= 0 && !o.json {
			a.ui.print("   sudo is needed by " + j.chosen[step].Name)
		}
	}
	return nil
}
