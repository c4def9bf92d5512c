package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"time"

	"github.com/kballard/go-shellquote"

	"colorfast"
	"colorfast/vault"
)

// How long a command for the password may take (somebody may have to touch a key),
// and how much of what it says of itself is shown.
const (
	commandTime   = time.Minute
	commandStderr = 64 << 10
)

// commandPassword runs the program that a variable names and takes what it prints
// on its standard output, one line, for the password.
//
// No shell is between: the words are split as a shell would split them, with quotes
// and backslashes, and nothing in them is expanded.
func (a *app) commandPassword(variable, command string) (given, error) {
	fail := func(kind colorfast.Kind, format string, args ...any) *colorfast.Error {
		return colorfast.Errorf(kind, "get the password from the command in "+variable+": "+format, args...)
	}
	words, err := shellquote.Split(command)
	if err != nil || len(words) == 0 {
		return given{}, fail(colorfast.Usage, "it cannot be split into words").WithHint("look at its quotes")
	}
	if i := slices.IndexFunc(words, func(w string) bool { return slices.Contains([]string{"|", "||", "&&", ";", ">", "<", "&"}, w) }); i >= 0 {
		return given{}, fail(colorfast.Usage, "no shell runs it, so %q has no meaning", words[i]).WithHint("put it into a script, and name that")
	}
	ctx, cancel := context.WithTimeout(a.ctx, a.commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	out := &bounded{most: mostPassword}
	cmd.Stdout, cmd.Stderr = out, &bounded{to: a.stderr, most: commandStderr}
	cmd.WaitDelay = time.Second // children of it that live on do not hold it up
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case a.ctx.Err() != nil:
		return given{}, a.ctx.Err()
	case out.over:
		return given{}, fail(colorfast.Usage, "%q printed more than %d bytes", words[0], mostPassword)
	case ctx.Err() != nil:
		return given{}, fail(colorfast.Unreachable, "%q took longer than %v", words[0], a.commandTime)
	case errors.As(err, &exit):
		return given{}, fail(colorfast.Denied, "%q ended with %v", words[0], exit.ProcessState).WithHint("run it yourself; what it said is above")
	case errors.Is(err, exec.ErrWaitDelay): // it ended well, a child of it has not
	case err != nil:
		return given{}, fail(colorfast.Usage, "%w", err)
	}
	text := bytes.TrimRight(out.held.Bytes(), "\r\n")
	switch {
	case len(text) == 0:
		return given{}, fail(colorfast.Usage, "%q printed nothing", words[0])
	case bytes.ContainsAny(text, "\r\n\x00"):
		return given{}, fail(colorfast.Usage, "%q printed more than one line", words[0]).WithHint("make it print the password alone")
	}
	return given{Password: vault.NewSecret(string(text)), from: fmt.Sprintf("what %q printed, run by %s", words[0], variable)}, nil
}

// bounded takes the first most bytes. With to they go there, and what follows is
// swallowed; without, they are held, and what follows is an error, which ends the
// program that writes it.
type bounded struct {
	to   io.Writer
	most int
	held bytes.Buffer
	over bool // there was more
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	n := len(p)
	p = p[:min(n, b.most)]
	b.most -= len(p)
	b.over = b.over || len(p) < n
	if b.to != nil {
		_, err := b.to.Write(p)
		return n, err
	}
	b.held.Write(p)
	if b.over {
		return len(p), io.ErrShortWrite
	}
	return n, nil
}
