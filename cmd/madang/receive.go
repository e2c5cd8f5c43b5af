package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/transfer"
)

type receiveCmd struct {
	meetFlags
	Link string   `arg:"" name:"link" help:"The link, or the spoken code, from madang send or a page."`
	Dir  string   `arg:"" optional:"" help:"Folder to write to; - writes one file to the standard output." default:"."`
	Only []string `help:"Receive only what matches; may be given several times." placeholder:"PATTERN"`
	Yes  bool     `short:"y" help:"Do not ask before receiving."`
	Most int      `name:"max-lanes" help:"Use no more than this many connections at once. Default: as many as help." placeholder:"N"`
}

// Help is for --help, below the first line.
func (c *receiveCmd) Help() string {
	return "Stopped, it leaves NAME" + transfer.PartSuffix + " for each file that was begun, and a journal, .madang-ID.journal. The same command in the same folder goes on from there. " +
		"Remove both if you do not want the rest."
}

func (c *receiveCmd) Run(ctx context.Context, s streams) error {
	server := c.server(s)
	for _, p := range c.Only {
		if _, err := path.Match(p, ""); err != nil {
			return usageError{refusal.Newf(refusal.InvalidField, "--only: %q is not a pattern.", p)}
		}
	}
	url, ticket, err := transfer.ParseLink(c.Link)
	if err == nil {
		server.URL = url
	} else {
		code, ok := transfer.ParseCode(c.Link)
		if !ok {
			return usageError{refusal.Newf(refusal.InvalidField, "%q is neither a link nor a code such as 417-maple-otter.", c.Link).
				Advise("Copy all of the link, with what follows the #, and put it in quotes.")}
		}
		if ticket, err = transfer.Redeem(ctx, server, code); err != nil {
			return newTransferScreen(s, c.JSON, receiving).failed(aboutCode(err, code))
		}
	}
	config := transfer.ReceiveConfig{Server: server, Ticket: ticket, Dir: c.Dir, Own: c.Name, Lanes: c.Most}
	if len(c.Only) > 0 {
		config.Choose = func(e transfer.Entry) bool { return matchesAny(c.Only, e.Path) }
	}
	confirmed := make(chan struct{})
	several := 0
	if c.Dir == "-" {
		temporary, err := os.MkdirTemp("", "madang-receive-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		config.Dir, config.Stream = temporary, s.out
		config.Confirm = func(entries []transfer.Entry, last bool) bool {
			if len(entries) != 1 || entries[0].Dir {
				several = len(entries)
			}
			return several == 0
		}
		s.out = s.err // for all else
	} else if !c.Yes && !c.JSON && isatty.IsTerminal(os.Stdin.Fd()) {
		config.Confirm = func(entries []transfer.Entry, last bool) bool {
			yes := ask(s, entries, last)
			close(confirmed)
			return yes
		}
	}
	show := newTransferScreen(s, c.JSON, receiving)
	config.OnProgress, config.OnEvent = show.progress, show.event
	if config.Confirm == nil {
		close(confirmed)
	}
	if c.Dir != "-" {
		config.Pauses = show.pausesAfter(ctx, confirmed)
	}
	result, err := transfer.Receive(ctx, config)
	show.end()
	if several > 0 {
		err = refusal.Newf(refusal.InvalidField, "The standard output takes one file, and there are %d entries.", several).Advise("Name a folder instead of -, or choose one with --only.")
	}
	if err != nil {
		return show.failed(aboutReceiving(err))
	}
	where := c.Dir
	if len(result.Names) == 1 && config.Stream == nil {
		where = filepath.Join(c.Dir, filepath.FromSlash(result.Names[0]))
	}
	show.done(map[string]any{"event": "done", "files": result.Files, "bytes": result.Bytes, "arrived": result.Arrived, "resent": result.Resent},
		s.language.pick(fmt.Sprintf("Received %s, %s, verified: %s", count(result.Files, "file", "files"), bytesText(result.Bytes), printable(where)),
			fmt.Sprintf("파일 %d개, %s를 받아 확인했어요: %s", result.Files, bytesText(result.Bytes), printable(where))))
	return nil
}

// aboutReceiving adds what a user can do.
func aboutReceiving(err error) error {
	switch {
	case errors.Is(err, refusal.New(refusal.Cancelled)):
		return advised{err, "The same command goes on where this one stopped.", "같은 명령으로 멈춘 곳부터 이어서 받을 수 있습니다."}
	case errors.Is(err, transfer.ErrNoFolder):
		return advised{err, "Move that away, or receive into another folder.", "그것을 옮기거나 다른 폴더로 받으세요."}
	case errors.Is(err, refusal.New(refusal.DiskFull)):
		return advised{err, "Make room and run the same command again: what has arrived is kept.", "공간을 확보한 뒤 같은 명령을 다시 실행하세요. 이미 받은 부분은 남아 있습니다."}
	case errors.Is(err, refusal.New(refusal.FolderUnwritable)):
		return advised{err, "Choose another folder, or look at its permissions. What has arrived is kept.", "다른 폴더를 고르거나 권한을 확인하세요. 이미 받은 부분은 남아 있습니다."}
	}
	return err
}

// aboutCode adds what a user can do about a code that is not redeemed.
func aboutCode(err error, code transfer.Code) error {
	switch {
	case errors.Is(err, transfer.ErrNobodyWaits):
		return advised{
			refusal.Newf(refusal.CodeSpent, "Nobody waits at the code %s.", code.Number).Because(err),
			"Check the number and --server. If both are right, the code was used or its sender has ended: ask for a new one, or for the link.",
			"번호와 --server를 확인하세요. 둘 다 맞다면 이미 쓴 코드이거나 보내는 쪽이 끝난 것입니다. 새 코드나 링크를 요청하세요.",
		}
	case errors.Is(err, refusal.New(refusal.CodeSpent)):
		return advised{err, "A code works once, and ends after five wrong tries. The link still works: ask the sender for it, or for a new code.", "코드는 한 번만 쓸 수 있고, 다섯 번 틀리면 끝납니다. 링크는 아직 쓸 수 있습니다. 보내는 사람에게 링크나 새 코드를 요청하세요."}
	case errors.Is(err, refusal.New(refusal.CodeWrong)):
		return advised{err, "Compare the words with those that the sender sees, and try again. If they are right, the server may be lying: use the link.", "보내는 사람의 화면에 있는 단어와 비교하고 다시 해 보세요. 단어가 맞다면 서버가 속이고 있을 수 있으니 링크를 쓰세요."}
	}
	return err
}

// matchesAny compares a path, its folders, and its name.
func matchesAny(patterns []string, p string) bool {
	for _, pattern := range patterns {
		if ok, _ := path.Match(pattern, path.Base(p)); ok { // it was checked
			return true
		}
		for prefix := p; prefix != "."; prefix = path.Dir(prefix) {
			if ok, _ := path.Match(pattern, prefix); ok {
				return true
			}
		}
	}
	return false
}

// ask shows what is offered.
func ask(s streams, entries []transfer.Entry, last bool) bool {
	const shown = 10
	var sum int64
	more := !last
	for i, e := range entries {
		switch {
		case i < shown:
			fmt.Fprintf(s.err, "  %s\n", printable(e.Path))
		case i == shown:
			fmt.Fprintln(s.err, "  …")
		}
		if e.Size == nil {
			more = true
			continue
		}
		sum += *e.Size
	}
	text := s.language.pick(fmt.Sprintf("%s, %s", count(len(entries), "entry", "entries"), bytesText(sum)), fmt.Sprintf("%d개, %s", len(entries), bytesText(sum)))
	if more { // it is still being looked for, or a stream
		text += s.language.pick(" or more", " 이상")
	}
	fmt.Fprint(s.err, text, s.language.pick(". Receive? [Y/n] ", ". 받을까요? [Y/n] "))
	line, err := terminalLines.ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return err == nil && (answer == "" || answer == "y" || answer == "yes" || answer == "예" || answer == "네")
}

func debugLogger(w interface{ Write([]byte) (int, error) }) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
