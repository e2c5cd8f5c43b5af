package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/mattn/go-isatty"

	"github.com/madang-rtc/madang/internal/refusal"
	"github.com/madang-rtc/madang/internal/transfer"
)

// A direction is what a screen shows.
type direction string

const (
	sending   direction = "sent"
	receiving direction = "received"
)

// A transferScreen shows a transfer: JSON lines (docs/transfer.md §16), or text with a bar where there is a terminal.
type transferScreen struct {
	s    streams
	json bool
	tty  *os.File // nil: no terminal that can erase a line
	way  direction

	mu     sync.Mutex
	last   transfer.Progress
	rate   float64 // bytes a second, smoothed
	at     time.Time
	drawn  bool
	said   time.Time
	opened bool             // sending: the link was shown, which comes first
	early  []transfer.Event // until then
}

func newTransferScreen(s streams, asJSON bool, way direction) *transferScreen {
	t := &transferScreen{s: s, json: asJSON, way: way, opened: way == receiving}
	if f, ok := s.err.(*os.File); ok && !asJSON && isatty.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb" {
		t.tty = f
	}
	return t
}

func (t *transferScreen) line(v any) {
	b, err := json.Marshal(v)
	if err == nil {
		fmt.Fprintf(t.s.out, "%s\n", b)
	}
}

func (t *transferScreen) ready(link, code string, qr bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = true
	defer func() {
		for _, e := range t.early {
			t.eventLocked(e)
		}
		t.early = nil
	}()
	if t.json {
		t.line(map[string]any{"event": "ready", "link": link, "code": code})
		return
	}
	say := t.s.language.pick
	fmt.Fprintf(t.s.out, say("Open this link, or give it to madang receive:", "이 링크를 열거나 madang receive에 붙여 넣으세요:")+"\n\n    %s\n\n", link)
	if code != "" {
		fmt.Fprintf(t.s.out, say("Or say this code, for madang receive with the same --server:", "또는 이 코드를 알려 주세요. 같은 --server로 madang receive를 쓰면 돼요:")+"\n\n    %s\n\n", code)
	}
	if qr {
		drawing, width, err := terminalQR(link, isTerminal(t.s.out))
		switch {
		case err != nil:
			fmt.Fprintln(t.s.err, say("There is no QR code for this link:", "이 링크의 QR 코드를 만들 수 없어요:"), err)
		case isTerminal(t.s.out) && terminalWidth(t.s.out.(*os.File)) < width:
			fmt.Fprintf(t.s.err, say("The QR code needs %d columns: make the window wider.", "QR 코드에는 %d칸이 필요해요. 창을 넓혀 주세요.")+"\n", width)
		default:
			fmt.Fprintln(t.s.out, drawing)
		}
	}
	pause := ""
	if t.canPause() {
		pause = say("Enter pauses and goes on. ", "Enter를 누르면 멈추거나 다시 시작해요. ")
	}
	fmt.Fprintf(t.s.err, say("Waiting for the receiver. %sCtrl+C ends; the same command goes on where this one stopped.", "받는 쪽을 기다리고 있어요. %sCtrl+C로 끝내고, 같은 명령으로 이어서 보낼 수 있어요.")+"\n", pause)
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// Sentences for people, in English and Korean; %s is a path.
var eventTexts = map[string][2]string{
	"connected":                      {"Connected: %s", "연결했어요: %s"},
	"waiting":                        {"Waiting for the sender…", "보내는 쪽을 기다리고 있어요…"},
	"waiting_long":                   {"Still no sender. The link may be used up, or its sender has ended: ask for a new one.", "아직 보내는 쪽이 없어요. 이미 쓰인 링크이거나 보내는 쪽이 끝났을 수 있어요. 새 링크를 요청하세요."},
	"sharing":                        {"Everything is here. Others still fetch from this machine; Ctrl+C ends that.", "모두 받았어요. 다른 사람이 이 컴퓨터에서 더 받고 있어요. Ctrl+C로 끝낼 수 있어요."},
	"stored":                         {"Everything is on the server until %s. You may leave: Ctrl+C.", "%s까지 모두 서버에 보관돼요. 이제 나가도 돼요: Ctrl+C."},
	"no_code":                        {"There is no spoken code; the link works.", "말로 전할 코드는 만들지 못했어요. 링크는 쓸 수 있어요."},
	string(refusal.DepotOff):         {"Not kept on the server. You have to stay until the receiver has everything.", "서버에 보관하지 않아요. 받는 쪽이 다 받을 때까지 켜 두세요."},
	string(refusal.DepotFull):        {"Not kept on the server yet.", "아직 서버에 보관하지 못했어요."},
	string(refusal.DepotDiskFull):    {"Not kept on the server yet.", "아직 서버에 보관하지 못했어요."},
	string(refusal.DepotExpired):     {"What waited on the server was removed: its time is over.", "보관 기간이 지나 서버에서 삭제됐어요."},
	"paused":                         {"The other side has paused.", "상대가 잠시 멈췄어요."},
	"resumed":                        {"The other side goes on.", "상대가 다시 시작했어요."},
	"skipped":                        {"Not sent: %s", "보내지 않았어요: %s"},
	"told":                           {"Offered to %s.", "%s에게 알렸어요."},
	"not_told":                       {"Not offered to %s", "%s에게 알리지 못했어요"},
	string(refusal.Done):             {"A receiver has everything.", "한 사람이 모두 받았어요."},
	string(refusal.Declined):         {"Somebody who has the link did not want the files.", "링크를 연 사람이 파일을 받지 않기로 했어요."},
	string(refusal.Cancelled):        {"Somebody who has the link has cancelled.", "링크를 연 사람이 취소했어요."},
	string(refusal.CodeWrong):        {"Somebody tried wrong words.", "누군가 틀린 단어를 입력했어요."},
	string(refusal.CodeSpent):        {"Wrong words five times: the code does not work any more; the link does.", "단어를 다섯 번 틀려서 코드는 더 쓸 수 없어요. 링크는 쓸 수 있어요."},
	string(refusal.NotAuthentic):     {"Somebody without the secret of the link tried to connect, or the server is lying. They got nothing.", "링크의 비밀 값을 모르는 누군가가 연결하려 했거나 서버가 속이고 있어요. 아무것도 넘어가지 않았어요."},
	string(refusal.SourceChanged):    {"Changed while it was being sent: %s", "보내는 동안 바뀌었어요: %s"},
	string(refusal.SourceUnreadable): {"Cannot be read: %s", "읽을 수 없어요: %s"},
}

func (t *transferScreen) event(e transfer.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.opened {
		t.early = append(t.early, e)
		return
	}
	t.eventLocked(e)
}

func (t *transferScreen) eventLocked(e transfer.Event) {
	if t.json {
		t.line(struct {
			Code  string `json:"event"`
			Path  string `json:"path,omitempty"`
			Text  string `json:"text,omitempty"`
			Until int64  `json:"untilMs,omitempty"`
		}{e.Code, e.Path, e.Text, e.Until})
		return
	}
	both, known := eventTexts[e.Code]
	text := t.s.language.pick(both[0], both[1])
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
	t.sayLocked(text)
}

func (t *transferScreen) sayLocked(text string) {
	t.eraseLocked()
	fmt.Fprintln(t.s.err, printable(text))
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
		// An average over about three seconds, of what goes over lanes: what was there from before is no speed.
		weight := min(1, elapsed/3)
		t.rate += weight * (float64(p.Sent-t.last.Sent)/elapsed - t.rate)
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
	if t.tty == nil || !moving {
		return
	}
	t.eraseLocked()
	fmt.Fprint(t.s.err, bar(p, t.way, t.rate, terminalWidth(t.tty)-1)) // a full line would wrap
	t.drawn = true
}

// bar shows how far a transfer is, in so many columns: what matters least goes first. All is ASCII, which has one column each everywhere.
func bar(p transfer.Progress, way direction, rate float64, width int) string {
	if p.Total < 0 {
		return fit([]string{fmt.Sprintf("%s %s", way, bytesText(p.Bytes)), fmt.Sprintf("%s/s", bytesText(int64(rate)))}, width)
	}
	total := p.Total * int64(max(1, p.Receivers)) // a sender counts what all of them have
	share := 1.0
	if total > 0 {
		share = min(1, float64(p.Bytes)/float64(total))
	}
	parts := []string{fmt.Sprintf("%3.0f%%", 100*share), fmt.Sprintf("%s of %s", bytesText(p.Bytes), bytesText(total))}
	if rate >= 1 {
		left := time.Duration(float64(total-p.Bytes) / rate * float64(time.Second))
		parts = append(parts, fmt.Sprintf("%s/s", bytesText(int64(rate))), fmt.Sprintf("%s left", left.Round(time.Second)))
	}
	if p.Stored > 0 {
		parts = append(parts, bytesText(p.Stored)+" on the server")
	}
	if way == receiving && p.Files > 1 {
		parts = append(parts, fmt.Sprintf("%d/%d files", p.FilesDone, p.Files))
	}
	text := fit(parts, width)
	const most, least = 24, 6
	room := min(most, width-len(text)-3)
	if room < least {
		return text
	}
	full := int(share * float64(room))
	percent, rest, _ := strings.Cut(text, "%")
	return fmt.Sprintf("%s%% [%s%s]%s", percent, strings.Repeat("#", full), strings.Repeat(".", room-full), rest)
}

// fit joins as many parts as there is room for, and always the first.
func fit(parts []string, width int) string {
	text := parts[0]
	for _, part := range parts[1:] {
		if len(text)+2+len(part) > width {
			break
		}
		text += "  " + part
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

// failed tells programs why; people read it from the error, which it returns.
func (t *transferScreen) failed(err error) error {
	if t.json {
		r := refusal.From(err)
		text := r.Message
		if r.Code == refusal.Internal {
			text = err.Error() // nothing is to be kept from whoever runs this program
		}
		t.line(map[string]any{"event": "failed", "code": r.Code, "text": text})
	}
	return err
}

// terminalLines is what is typed. It has one reader at a time: who asks a question, and then who waits for Enter.
var terminalLines = bufio.NewReader(os.Stdin)

func (t *transferScreen) canPause() bool { return t.tty != nil && isatty.IsTerminal(os.Stdin.Fd()) }

// pauses turns each Enter into a pause, or its end.
func (t *transferScreen) pauses(ctx context.Context) <-chan bool {
	now := make(chan struct{})
	close(now)
	return t.pausesAfter(ctx, now)
}

// pausesAfter does so once nobody else reads what is typed.
func (t *transferScreen) pausesAfter(ctx context.Context, free <-chan struct{}) <-chan bool {
	if !t.canPause() {
		return nil
	}
	staysInBackground()
	pauses := make(chan bool)
	go func() { // A read of a terminal cannot be interrupted: this goroutine may outlive the command, and owns nothing.
		select {
		case <-free:
		case <-ctx.Done():
			return
		}
		for on := true; ; on = !on {
			if _, err := terminalLines.ReadString('\n'); err != nil {
				return
			}
			select {
			case pauses <- on:
			case <-ctx.Done():
				return
			}
			text := t.s.language.pick("Goes on.", "다시 시작해요.")
			if on {
				text = t.s.language.pick("Paused. Enter goes on.", "멈췄어요. Enter를 누르면 다시 시작해요.")
			}
			t.mu.Lock()
			t.drawn = true // on the line that Enter has begun there may be a bar by now
			t.sayLocked(text)
			t.mu.Unlock()
		}
	}()
	return pauses
}

// printable is text from elsewhere as a terminal may get it: without what would move its cursor, change its title, or turn the writing's direction.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
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
