// Command colorfast backs up Chroma while it serves, and gets it back whole.
//
// It is a door: commands translate flags and the environment into the verbs of
// the packages below, and their reports into text or JSON. main.go runs and
// maps errors to exit codes, wire.go builds things, out.go and progress.go
// speak to people; then one file a command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"colorfast"
)

// Exit codes, as every --help lists them.
const (
	exitDone        = 0
	exitError       = 1
	exitUsage       = 2
	exitFindings    = 3
	exitPartly      = 4
	exitNotFound    = 10
	exitLocked      = 11
	exitDenied      = 12
	exitInterrupted = 130
)

const exitHelp = `Exit codes:
  0 done            1 error           2 usage or configuration
  3 done, and something is wrong: records lost or damaged, or a check failed
  4 done in part: a copy is not made, or is behind
  10 not found      11 locked or in use
  12 wrong password or no permission  130 interrupted`

// errFindings ends a command that did its work and found something bad. What
// was found has been shown already.
var errFindings = errors.New("findings that cost records")

// errPartly ends a command that did a part of its work. What it did not, and why,
// has been shown already.
var errPartly = errors.New("not all is done")

// shown is an error that has been shown already.
type shown struct{ error }

// Unwrap returns the error.
func (s *shown) Unwrap() error { return s.error }

func main() {
	a := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, commandTime: commandTime,
		terminal: term.IsTerminal(int(os.Stderr.Fd())), confine: confine,
	}
	a.boundMemory()
	os.Exit(a.run(os.Args[1:]))
}

// app is the program with what it reads from outside.
type app struct {
	stdin          *os.File
	stdout, stderr io.Writer // result; conversation
	getenv         func(string) string
	terminal       bool            // stderr is a terminal: show progress
	confine        func(int) error // binds the process to so many cores; nil in tests
	commandTime    time.Duration   // that a command for the password may take
	ctx            context.Context // ends with the first signal; for reading passwords, which every command does

	vaultURL string
	staging  string
	json     bool
	verbose  int
	asOf     moment // zero: now
	limitFlags
}

// run executes a command line and returns the exit code.
func (a *app) run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	a.ctx = ctx
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.stderr, "colorfast: interrupted; nothing was left half done")
		return exitInterrupted
	}
	return a.report(err)
}

// report shows an error and returns its exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitDone
	}
	if errors.Is(err, errFindings) {
		return exitFindings
	}
	if errors.Is(err, errPartly) {
		return exitPartly
	}
	var told *shown
	if !errors.As(err, &told) {
		a.complain(err)
	}
	switch colorfast.KindOf(err) {
	case colorfast.Usage:
		return exitUsage
	case colorfast.NotFound:
		return exitNotFound
	case colorfast.Locked:
		return exitLocked
	case colorfast.Denied:
		return exitDenied
	}
	return exitError
}

// complain shows an error with its hint.
func (a *app) complain(err error) {
	fmt.Fprintf(a.stderr, "colorfast: error: %v\n", err)
	if hint := colorfast.HintOf(err); hint != "" {
		fmt.Fprintf(a.stderr, "colorfast: hint: %s\n", hint)
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "colorfast",
		Short: "Back up Chroma while it serves, and get it back whole",
		Long: `colorfast backs up Chroma, the vector database, while it serves: the SQLite
database and the HNSW files as one consistent cut, proven record by record,
encrypted in a vault.

The vault is named by --vault or COLORFAST_VAULT (such as file:///srv/vault),
its password by COLORFAST_PASSWORD, or by _FILE, _COMMAND or _KEYRING behind that
name, or by a systemd credential; or by the file that "colorfast init" made.

` + exitHelp,
		Example: `  colorfast protect ./chroma            # zero-config start
  colorfast backup /srv/chroma && colorfast list`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(cmd, fmt.Errorf("there is no command %q", args[0]))
			}
			return nil
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.applyLimits() },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	flags := root.PersistentFlags()
	flags.StringVar(&a.vaultURL, "vault", "", "vault `URL`, such as file:///srv/vault (default $COLORFAST_VAULT, else a folder in your data home)")
	flags.StringVar(&a.staging, "staging", "", "`folder` for copies on their way (default $COLORFAST_STAGING, else in your cache home)")
	flags.BoolVar(&a.json, "json", false, "print one JSON document on standard output")
	flags.CountVarP(&a.verbose, "verbose", "v", "tell more on standard error; twice for all")
	a.limitFlags.register(root)
	for _, c := range []*cobra.Command{
		a.protectCommand(), a.initCommand(), a.backupCommand(), a.listCommand(), a.showCommand(),
		a.diffCommand(), a.verifyCommand(), a.restoreCommand(), a.vaultCommand(), a.recoveryCommand(), a.versionCommand(),
	} {
		c.Long += "\n\n" + exitHelp
		root.AddCommand(c)
	}
	return root
}

// usage makes an error of how a command was called.
func usage(cmd *cobra.Command, err error) error {
	return colorfast.Errorf(colorfast.Usage, "%w", err).WithHint("see \"%s --help\"", cmd.CommandPath())
}

// exactly demands n arguments.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(cmd, fmt.Errorf("%s takes %s, got %d arguments", cmd.Name(), what, len(args)))
		}
		return nil
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  "Print the version of colorfast and of the stored form that it writes.",
		Args:  exactly(0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]any{"version": colorfast.Version, "format": colorfast.Format})
			}
			_, err := fmt.Fprintf(a.stdout, "colorfast %s (backup format %d)\n", colorfast.Version, colorfast.Format)
			return err
		},
	}
}
