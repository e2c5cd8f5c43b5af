package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/transfer"
)

// meetFlags say where both ends of a transfer meet.
type meetFlags struct {
	Server  string `help:"The Madang server where both sides meet." default:"http://localhost:8080" env:"MADANG_SERVER" placeholder:"URL"`
	Key     string `help:"Browser key to join with. Default: the one of the server's own pages." env:"MADANG_KEY" placeholder:"KEY"`
	Token   string `help:"Access token to join with, instead of a key." env:"MADANG_TOKEN" placeholder:"TOKEN"`
	JSON    bool   `name:"json" help:"Print one JSON object per line."`
	Name    string `help:"What the other side sees of you." placeholder:"NAME"`
	Lanes   string `help:"Kinds of connections: auto; webrtc, as a browser; or quic." enum:"auto,webrtc,quic" default:"auto"`
	Verbose bool   `short:"v" help:"Say more about connections."`
}

func (f *meetFlags) server(s streams) transfer.Server {
	server := transfer.Server{URL: strings.TrimSuffix(f.Server, "/"), Key: f.Key, Token: f.Token, Lanes: f.Lanes}
	if f.Verbose {
		server.Logger = debugLogger(s.err)
	}
	return server
}

type sendCmd struct {
	meetFlags
	Paths     []string `arg:"" help:"Files and folders; - is the standard input." placeholder:"PATH"`
	Receivers int      `help:"For how many receivers the link is; 0: for any number, until you stop." default:"1" placeholder:"N"`
	As        string   `help:"File name of the standard input." default:"stdin" placeholder:"NAME"`
	To        string   `help:"Also offer the files to those who are in this call now. The server does not see the link." placeholder:"CHANNEL"`
	New       bool     `help:"Make a new link, even if these paths were being sent before."`
	NoCode    bool     `name:"no-code" help:"Make no spoken code."`
	Limit     float64  `help:"Send no faster than this many megabits a second." placeholder:"MBIT"`
	QR        bool     `name:"qr" help:"Show the link as a QR code."`
	Store     bool     `help:"Keep everything on the server too, sealed, so that the receiver may come when you have left. The server must allow it."`
	Leave     bool     `help:"With --store: end when all of it is there."`
}

func (c *sendCmd) Run(ctx context.Context, s streams) error {
	config := transfer.SendConfig{Server: c.server(s), Paths: c.Paths, Receivers: c.Receivers, NoCode: c.NoCode, Own: c.Name, To: c.To, LimitBps: c.Limit * 1e6, Store: c.Store, Leave: c.Leave}
	if len(c.Paths) == 1 && c.Paths[0] == "-" {
		config.Paths, config.Stream, config.Name = nil, os.Stdin, c.As
	}
	for _, p := range config.Paths {
		if p == "-" {
			return usageError{refusal.Newf(refusal.InvalidField, "The standard input is sent alone.").Advise("Run two commands: one for the files, one for -.")}
		}
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			return refusal.Newf(refusal.NotFound, "There is no file %q.", p)
		}
	}
	var unfinished *unfinishedSend
	if config.Stream == nil {
		var err error
		if unfinished, err = c.unfinished(); err != nil {
			return err
		}
		defer unfinished.close()
		if err = unfinished.load(c.New, &config); err != nil {
			return err
		}
	}
	show := newTransferScreen(s, c.JSON, sending)
	config.OnProgress, config.OnEvent = show.progress, show.event
	config.OnReady = func(link, code string) { show.ready(link, code, c.QR) }
	if config.Stream == nil {
		config.Pauses = show.pauses(ctx)
	}
	err := transfer.Send(ctx, config)
	show.end()
	if errors.Is(err, transfer.ErrStored) {
		show.done(map[string]any{"event": "left", "stored": show.last.Stored}, s.language.pick("The receiver can get everything from the server.", "받는 쪽은 서버에서 모두 받을 수 있어요."))
		return nil
	}
	if unfinished != nil && err == nil {
		unfinished.forget()
	}
	if err != nil {
		return show.failed(err)
	}
	show.done(map[string]any{"event": "done", "sent": show.last.Sent}, s.language.pick("Everything has arrived.", "모두 도착했어요."))
	return nil
}

// An unfinishedSend remembers the link of what is being sent, so that the same command goes on after a crash.
type unfinishedSend struct {
	path string
	file *os.File // locked; nil: another command has it
}

func (c *sendCmd) unfinished() (*unfinishedSend, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		state = filepath.Join(home, ".local", "state")
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n", c.Server, c.Receivers)
	for _, p := range c.Paths {
		absolute, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(h, "%q\n", absolute)
	}
	return &unfinishedSend{path: filepath.Join(state, "madang", "send", hex.EncodeToString(h.Sum(nil)[:16])+".json")}, nil
}

type savedTicket struct {
	Link string `json:"link"`
	End  string `json:"end"`
	// Store opens what waits on the server.
	Store string `json:"store,omitempty"`
}

// load puts what is remembered into a config, or makes it anew and keeps it. While another command sends the same, it has the link that is kept: this one's is kept nowhere.
func (u *unfinishedSend) load(fresh bool, config *transfer.SendConfig) error {
	if err := os.MkdirAll(filepath.Dir(u.path), 0o700); err != nil {
		return err
	}
	mine, err := u.lock()
	if err != nil {
		return err
	}
	var saved savedTicket
	if mine && !fresh && json.NewDecoder(u.file).Decode(&saved) == nil {
		if _, t, err := transfer.ParseLink(saved.Link); err == nil && saved.End != "" {
			config.Ticket, config.End, config.StoreToken = t, saved.End, saved.Store
			if !config.Store || saved.Store != "" {
				return nil
			}
		}
	}
	if config.End == "" {
		secret := transfer.NewTicket().Secret
		config.Ticket, config.End = transfer.NewTicket(), base64.RawURLEncoding.EncodeToString(secret[:])
	}
	if config.Store {
		config.StoreToken = transfer.NewStoreToken()
	}
	if !mine {
		return nil
	}
	b, err := json.Marshal(savedTicket{config.Ticket.Link("https://localhost"), config.End, config.StoreToken})
	if err == nil {
		err = u.file.Truncate(0)
	}
	if err == nil {
		_, err = u.file.WriteAt(b, 0)
	}
	return err
}

// lock reports whether this command is the only one that sends the same.
func (u *unfinishedSend) lock() (bool, error) {
	for {
		f, err := os.OpenFile(u.path, os.O_RDWR|os.O_CREATE, 0o600) // it holds the secret
		if err != nil {
			return false, err
		}
		if transfer.LockFile(f) != nil {
			return false, f.Close()
		}
		own, err := f.Stat()
		if there, missing := os.Stat(u.path); err == nil && missing == nil && os.SameFile(own, there) {
			u.file = f
			return true, nil
		}
		f.Close() // another one has forgotten it since
	}
}

func (u *unfinishedSend) forget() {
	if u.file != nil {
		os.Remove(u.path)
	}
}

// close lets others send the same.
func (u *unfinishedSend) close() {
	if u.file != nil {
		u.file.Close()
	}
}
