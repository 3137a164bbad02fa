// Package ops runs the steps of a job list: on the workstation, and on the
// node through the agent.
//
// # Use
//
//	steps, err := ops.ParseAll(jobs)                     // deploy.Step → Step, arguments validated
//	result := ops.Run(ctx, &env, steps, ops.Options{}, sink) // halts at the first step that is not OK
//
// [Check] is the deploy.StepCheck that refuses bad steps when deploy.ini is
// read; [Explain] gives the command that an operator can type by hand.
// Nothing here prints: what happens goes to a [Sink].
//
// # The work loop
//
// Steps are visited in their order. Before each remote step the bundle is
// synced (the barrier), so that the node has all that was written here; after
// it the mount's cache is dropped, so that the operator sees what it wrote. A
// barrier that does not pass is BLOCKED: the step was not begun. That the lock is
// still ours, the agent proves when it begins the step, in the same request. The loop halts
// at the first step that is not OK; the bundle stays open and mounted.
//
// Before the first step, the metadata of the artifacts are read (see [Lacks]): when
// a pip step will certainly not find what it needs, the run is BLOCKED and nothing is begun.
//
// Cancelling the context stops the step that runs, with its whole process
// group, and is STOPPED. A step's --timeout does the same and is TIMED OUT.
// When the connection is lost, the agent ends itself and what it runs; that is
// an ERROR.
//
// # The agent
//
// agent.py is a program for Python 3.6 or later that is fed, with its parts in other files, to the node's python3
// on standard input, over one exec request of the run's SSH connection; it
// is never written to the node's disk. It is started beside the local steps that come first,
// where connecting asks nothing. Requests and answers are frames, a 4-byte
// big-endian length and JSON in ASCII, after a line with a random word that
// tells the agent's output from what a login shell printed before. Commands run
// in a session of their own. Their output is streamed line by
// line; a slow reader slows the command down, nothing is lost or piled up. A
// line is handed on without its line feed, with control characters made
// visible, since the text comes from the node and ends on a terminal; one
// that is longer than 64 KiB comes in several pieces.
//
// A process that outlives the command it was started by does not hold up
// the step, even when it keeps the output open. It is left running, as ssh
// would leave it; on a timeout or cancel it is killed with the command, even in a session of
// its own: it is known by its descent, or by the variable _CONC_STEP that each command gets.
package ops
