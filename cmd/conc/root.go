package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"bundlefs/bundle"
	"bundlefs/internal/journal"
	"bundlefs/internal/remote"
)

// app is what all commands share.
type app struct {
	ui        *ui
	stdin     io.Reader
	prompt    remote.Prompter
	stateDir  string // with the states of bundles and the journal
	spoolsDir string // with what mounts have not sent yet; "" for the user's
	journal   *journal.Journal
	atOnce    *leaving // what a second Ctrl-C must do; may be nil

	file    string // --file
	verbose bool   // --verbose
	parsed  bool   // the arguments were right: what fails now is no wrong usage
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	return &app{ui: newUI(stdout, stderr), stdin: stdin, prompt: remote.UserPrompter()}
}

// main runs one command line and gives its exit code.
func (a *app) main(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	told := context.AfterFunc(ctx, func() { a.ui.warn("", "", "interrupted: what runs is being ended; a second Ctrl-C leaves at once") })
	err := root.ExecuteContext(ctx)
	told()
	a.ui.progressEnd()
	if err == nil {
		return exitOK
	}
	if !a.parsed {
		err = usagef("'conc --help' lists the commands, 'conc COMMAND --help' explains one", "%w", err)
	}
	switch shell := (*shellError)(nil); {
	case errors.As(err, &shell): // what ran there has said why
	case errors.Is(err, errNoReader): // nobody wants to know
	default:
		a.ui.fail(err)
	}
	return exitCode(err)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "conc",
		Short: "deploy Python applications, step by step",
		Long: strings.TrimSpace(`
Change on Command deploys Python applications to nodes that have nothing but
sshd and python3. 'conc open' locks a node with a folder, the bundle, and mounts
it here; 'conc install' delivers into it and runs the steps of deploy.ini;
'conc close' takes the lock away. Whatever halts, stays open to be mended.

A NODE is a name in deploy.ini, @GROUP or @all. Left out, it is the node whose
mount is the current folder, or the one bundle of this deploy.ini that is open.

Exit codes: 0 OK or STOPPED by plan, 1 FAILED, 2 wrong usage or deploy.ini,
3 BLOCKED, 4 ERROR, 5 TIMED OUT, 130 interrupted.`),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.parsed = true
			if a.verbose {
				a.ui.level = slog.LevelDebug
			}
			if a.stateDir == "" {
				dir, err := bundle.DefaultStateDir()
				if err != nil {
					return err
				}
				a.stateDir = dir
			}
			a.journal = journal.New(a.stateDir)
			return nil
		},
	}
	root.SetOut(a.ui.data)
	root.SetErr(a.ui.messages)
	root.PersistentFlags().StringVar(&a.file, "file", "", "the deploy.ini `FILE` (default: $CONC_FILE, or deploy.ini here or in a parent folder)")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "tell more")
	root.AddCommand(
		newNodesCommand(a), newShowCommand(a), newCheckCommand(a), newPlanCommand(a),
		newOpenCommand(a), newStatusCommand(a), newMountCommand(a), newSyncCommand(a),
		newInstallCommand(a), newRunCommand(a), newTestCommand(a), newCloseCommand(a), newUnlockCommand(a),
		newShellCommand(a), newLogCommand(a), newRehearseCommand(a), newVersionCommand(a),
	)
	return root
}

// note adds an event to the journal. That it cannot be written is told, but
// does not make what was done fail.
func (a *app) note(e journal.Event) {
	if err := a.journal.Add(e); err != nil {
		a.ui.warn(e.Node, e.Step, "%v", err)
	}
}
