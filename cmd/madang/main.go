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

	Lang string `help:"Language for people: en or ko. Default: from LC_ALL, LC_MESSAGES, LANG." enum:",en,ko" default:"" placeholder:"LANG"`
}

// Exit codes, the same for every subcommand.
const (
	exitFailed = 1 // it did not work
	exitUsage  = 2 // the command line, the environment or the configuration file is wrong
)

// A usageError says that the command line is wrong, in a way that only the command itself knows.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

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
	)
	if err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return exitUsage
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	l := spoken(p.Lang)
	if err != nil {
		return report(stderr, err, exitUsage, l)
	}
	if err := command.Run(streams{stdout, stderr, l}); errors.Is(err, errUnwell) {
		return exitFailed
	} else if err != nil {
		return report(stderr, err, exitFailed, l)
	}
	return 0
}

// streams are where a command writes: results to out, everything else to err; and in what language.
type streams struct {
	out, err io.Writer
	language language
}

func report(stderr io.Writer, err error, code int, l language) int {
	var wrong *config.Error
	var usage usageError
	if errors.As(err, &wrong) || errors.As(err, &usage) {
		code = exitUsage
	}
	hint := hintIn(err, l)
	if hint == "" && code == exitUsage {
		hint = l.pick("madang --help lists the commands, madang COMMAND --help their flags", "madang --help는 명령을, madang COMMAND --help는 옵션을 보여 줍니다")
	}
	fmt.Fprintln(stderr, l.pick("error:", "오류:"), inLanguage(err, l))
	if hint != "" {
		fmt.Fprintln(stderr, l.pick("hint: ", "안내:"), hint)
	}
	return code
}
