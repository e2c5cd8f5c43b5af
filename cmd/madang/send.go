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
	"sync"
	"time"

	"github.com/mattn/go-isatty"

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
	To        string   `help:"Also tell the members of this channel about the link. The server then sees it." placeholder:"CHANNEL"`
	New       bool     `help:"Make a new link, even if these paths were being sent before."`
	NoCode    bool     `name:"no-code" help:"Make no spoken code."`
	Limit     float64  `help:"Send no faster than this many megabits a second." placeholder:"MBIT"`
	QR        bool     `name:"qr" help:"Show the link as a QR code."`
	Store     bool     `help:"Keep everything on the server too, sealed, so that the receiver may come when you have left. The server must allow it."`
	Leave     bool     `help:"With --store: end when all of it is there."`
}

func (c *sendCmd) Run(ctx context.Context, s streams) error {
	config := transfer.SendConfig{Server: c.server(s), Paths: c.Paths, Receivers: c.Receivers, NoCode: c.NoCode, Own: c.Name, LimitBps: c.Limit * 1e6, Store: c.Store, Leave: c.Leave}
	if len(c.Paths) == 1 && c.Paths[0] == "-" {
		config.Paths, config.Stream, config.Name = nil, os.Stdin, c.As
	}
	for _, p := range config.Paths {
		if p == "-" {
			return refusal.Newf(refusal.InvalidField, "The standard input is sent alone.").Advise("Run two commands: one for the files, one for -.")
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
		if err = unfinished.load(c.New, &config); err != nil {
			return err
		}
	}
	show := newTransferScreen(s, c.JSON, "sent")
	config.OnProgress, config.OnEvent = show.progress, show.event
	config.OnReady = func(link, code string) {
		if c.To != "" {
			if err := transfer.Tell(ctx, config.Server, c.To, link); err != nil {
				show.event(transfer.Event{Code: "not_told", Text: err.Error()})
			}
		}
		show.ready(link, code, c.Server, c.QR)
	}
	err := transfer.Send(ctx, config)
	show.end()
	if errors.Is(err, transfer.ErrStored) {
		show.done(map[string]any{"event": "left", "stored": show.last.Stored}, "The receiver can get everything from the server.")
		return nil
	}
	if unfinished != nil && (err == nil || errors.Is(err, refusal.New(refusal.Declined))) {
		unfinished.forget()
	}
	if err != nil {
		return err
	}
	show.done(map[string]any{"event": "done", "sent": show.last.Sent}, "Everything has arrived.")
	return nil
}

// An unfinishedSend remembers the link of what is being sent, so that the same command goes on after a crash.
type unfinishedSend struct{ path string }

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
	return &unfinishedSend{filepath.Join(state, "madang", "send", hex.EncodeToString(h.Sum(nil)[:16])+".json")}, nil
}

type savedTicket struct {
	Link string `json:"link"`
	End  string `json:"end"`
	// Store opens what waits on the server.
	Store string `json:"store,omitempty"`
}

// load puts what is remembered into a config, or makes it anew and keeps it.
func (u *unfinishedSend) load(fresh bool, config *transfer.SendConfig) error {
	var saved savedTicket
	if b, err := os.ReadFile(u.path); err == nil && !fresh && json.Unmarshal(b, &saved) == nil {
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
	b, err := json.Marshal(savedTicket{config.Ticket.Link("https://localhost"), config.End, config.StoreToken})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(u.path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(u.path, b, 0o600) // it holds the secret
}

func (u *unfinishedSend) forget() { os.Remove(u.path) }

// A transferScreen shows a transfer: JSON lines, or text with a bar where there is a terminal.
type transferScreen struct {
	s    streams
	json bool
	tty  bool
	verb string

	mu    sync.Mutex
	last  transfer.Progress
	rate  float64 // bytes a second, smoothed
	at    time.Time
	drawn bool
	said  time.Time
}

func newTransferScreen(s streams, asJSON bool, verb string) *transferScreen {
	t := &transferScreen{s: s, json: asJSON, verb: verb}
	if f, ok := s.err.(*os.File); ok && !asJSON {
		t.tty = isatty.IsTerminal(f.Fd())
	}
	return t
}

func (t *transferScreen) line(v any) {
	b, err := json.Marshal(v)
	if err == nil {
		fmt.Fprintf(t.s.out, "%s\n", b)
	}
}

func (t *transferScreen) ready(link, code, server string, qr bool) {
	if t.json {
		t.line(map[string]any{"event": "ready", "link": link, "code": code})
		return
	}
	fmt.Fprintf(t.s.out, "Open this link, or give it to madang receive:\n\n    %s\n\n", link)
	if code != "" {
		fmt.Fprintf(t.s.out, "Or say this code, for madang receive with the same --server:\n\n    %s\n\n", code)
	}
	if qr {
		if drawing, err := terminalQR(link); err == nil {
			fmt.Fprintln(t.s.out, drawing)
		}
	}
	fmt.Fprintln(t.s.err, "Waiting for the receiver. Ctrl+C ends; the same command goes on where this one stopped.")
}

// Sentences for people; %s is a path.
var eventTexts = map[string]string{
	"connected":                      "Connected: %s",
	"waiting":                        "Waiting for the sender…",
	"stored":                         "Everything is on the server until %s. You may leave: Ctrl+C.",
	string(refusal.DepotOff):         "Not kept on the server. You have to stay until the receiver has everything.",
	string(refusal.DepotFull):        "Not kept on the server yet.",
	string(refusal.DepotDiskFull):    "Not kept on the server yet.",
	string(refusal.DepotExpired):     "What waited on the server was removed: its time is over.",
	"skipped":                        "Not sent: %s",
	string(refusal.Done):             "A receiver has everything.",
	string(refusal.CodeWrong):        "Somebody tried wrong words.",
	string(refusal.CodeSpent):        "Wrong words five times: the code does not work any more; the link does.",
	string(refusal.NotAuthentic):     "Somebody without the secret of the link tried to connect, or the server is lying. They got nothing.",
	string(refusal.SourceChanged):    "Changed while it was being sent: %s",
	string(refusal.SourceUnreadable): "Cannot be read: %s",
}

func (t *transferScreen) event(e transfer.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.json {
		t.line(struct {
			Code  string `json:"event"`
			Path  string `json:"path,omitempty"`
			Text  string `json:"text,omitempty"`
			Until int64  `json:"untilMs,omitempty"`
		}{e.Code, e.Path, e.Text, e.Until})
		return
	}
	text, known := eventTexts[e.Code]
	switch {
	case !known:
		text = e.Code
	case e.Until > 0:
		text = fmt.Sprintf(text, time.UnixMilli(e.Until).Format("2006-01-02 15:04"))
	case strings.Contains(text, "%s"):
		text = fmt.Sprintf(text, e.Path)
	}
	if e.Text != "" {
		text += " (" + e.Text + ")"
	}
	t.eraseLocked()
	fmt.Fprintln(t.s.err, text)
}

func (t *transferScreen) eraseLocked() {
	if t.drawn {
		fmt.Fprint(t.s.err, "\r\x1b[K")
		t.drawn = false
	}
}

func (t *transferScreen) progress(p transfer.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if elapsed := now.Sub(t.at).Seconds(); !t.at.IsZero() && elapsed > 0 {
		// An average over about three seconds.
		weight := min(1, elapsed/3)
		t.rate += weight * (float64(p.Bytes-t.last.Bytes)/elapsed - t.rate)
	}
	moving := p.Lanes > 0 || p.Stored != t.last.Stored
	t.last, t.at = p, now
	if t.json {
		if now.Sub(t.said) >= 250*time.Millisecond && moving {
			t.said = now
			t.line(struct {
				Event string `json:"event"`
				transfer.Progress
				RateBps int64 `json:"bytesPerSecond"`
			}{"progress", p, int64(t.rate)})
		}
		return
	}
	if !t.tty || !moving {
		return
	}
	t.eraseLocked()
	fmt.Fprint(t.s.err, t.bar(p))
	t.drawn = true
}

func (t *transferScreen) bar(p transfer.Progress) string {
	const width = 24
	text := fmt.Sprintf("%s %s", t.verb, bytesText(p.Bytes))
	if p.Total > 0 {
		share := min(1, float64(p.Bytes)/float64(max(p.Total, 1)))
		full := int(share * width)
		text = fmt.Sprintf("%3.0f %% [%s%s] %s of %s", 100*share, strings.Repeat("█", full), strings.Repeat("·", width-full), bytesText(p.Bytes), bytesText(p.Total))
		if t.rate > 1 {
			left := time.Duration(float64(p.Total-p.Bytes) / t.rate * float64(time.Second))
			text += fmt.Sprintf("  %s/s  %s left", bytesText(int64(t.rate)), left.Round(time.Second))
		}
	}
	if p.Stored > 0 {
		text += "  " + bytesText(p.Stored) + " on the server"
	}
	if p.Files > 1 {
		text += fmt.Sprintf("  %d/%d files", p.FilesDone, p.Files)
	}
	return text
}

func (t *transferScreen) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.eraseLocked()
}

func (t *transferScreen) done(object map[string]any, text string) {
	if t.json {
		t.line(object)
		return
	}
	fmt.Fprintln(t.s.err, text)
}

func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f := float64(n)
	i := 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
