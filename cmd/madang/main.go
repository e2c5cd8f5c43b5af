// Command madang is the whole product: the server, and the tools that administer, measure and use it. Each subcommand has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/madang-rtc/madang/internal/config"
)

type program struct {
	Serve   serveCmd   `cmd:"" help:"Run a node."`
	Send    sendCmd    `cmd:"" help:"Send files and folders of any size."`
	Receive receiveCmd `cmd:"" help:"Receive what somebody sends."`
	Project ProjectCmd `cmd:"" help:"Administer projects, keys and secrets."`
	Channel ChannelCmd `cmd:"" help:"Administer channels and their peers."`
	Token   TokenCmd   `cmd:"" help:"Make access tokens, TURN credentials, the administrator's token."`
	Doctor  doctorCmd  `cmd:"" help:"Look at a node from outside and say what is wrong."`
	Bench   benchCmd   `cmd:"" help:"Measure what messages and relayed packets cost."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// Exit codes, the same for every subcommand.
const (
	exitFailed = 1 // it did not work
	exitUsage  = 2 // the command line, the environment or the configuration file is wrong
)

// A usageError says that the command line is wrong, in a way that only the command itself knows.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// hinter is an error that knows what to do next.
type hinter interface{ Hint() string }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	// SIGTERM and SIGINT end ctx; a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	var p program
	exited := -1
	parser, err := kong.New(&p,
		kong.Name("madang"),
		kong.Description("Calls, data, files and live broadcasting for any page, app or device, from one program."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.Configuration(config.Load),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams{stdout, stderr}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return exitUsage
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		return report(stderr, err, exitUsage)
	}
	if err := command.Run(); errors.Is(err, errUnwell) {
		return exitFailed
	} else if err != nil {
		return report(stderr, err, exitFailed)
	}
	return 0
}

// streams are where a command writes: results to out, everything else to err.
type streams struct{ out, err io.Writer }

func report(stderr io.Writer, err error, code int) int {
	var wrong *config.Error
	var usage usageError
	if errors.As(err, &wrong) || errors.As(err, &usage) {
		code = exitUsage
	}
	fmt.Fprintln(stderr, "error:", err)
	var h hinter
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintln(stderr, "hint: ", h.Hint())
	} else if code == exitUsage {
		fmt.Fprintln(stderr, "hint:  madang --help lists the commands, madang COMMAND --help their flags")
	}
	return code
}
