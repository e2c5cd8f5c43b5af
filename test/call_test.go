//go:build linux

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/color"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// TestCalls makes calls between all pairs of browsers, on a foreign site's page, and tries everything that the SDK offers in them.
func TestCalls(t *testing.T) {
	node := serve(t, lab.NodeConfig{Args: []string{relayLoopback}})
	site := blankPages(t, nil, nil)
	browsers := map[browser.Engine]*browser.Browser{
		// The second of its fake cameras gives depths, which cannot be sent; the third is like the first.
		browser.Chromium: browser.Start(t, browser.Chromium, browser.Options{Args: []string{"--use-fake-device-for-media-stream=fps=30,device-count=3"}}),
		browser.Firefox:  browser.Start(t, browser.Firefox, browser.Options{}),
	}
	engines := []browser.Engine{browser.Chromium, browser.Firefox}
	for _, first := range engines {
		t.Run(string(first), func(t *testing.T) {
			t.Parallel() // two calls at a time: what one waits for leaves time for the other
			for _, second := range engines {
				t.Run(string(second), func(t *testing.T) {
					pair := [2]browser.Engine{first, second}
					a := newMember(t, browsers[pair[0]], site, node.HTTP, "Mina")
					b := newMember(t, browsers[pair[1]], site, node.HTTP, "Jun")
					channel := channelName(t)
					// a is there first, so b makes the offer, with its preferences.
					a.join(channel, map[string]any{"maxBitrateBps": map[string]any{"video": 250_000}})
					b.join(channel, map[string]any{"codecs": map[string]any{"video": []string{"VP9", "VP8"}, "audio": []string{"opus"}}})
					for _, m := range []*member{a, b} {
						m.awaitMedia(2)
						m.await(patience, `[...document.querySelectorAll("video")].some((v) => v.videoWidth === 640 && v.currentTime > 0)`)
					}

					chat(a, "안녕하세요", b)
					chat(b, "hello, <b>Mina</b>", a)

					// Mute: the other side is told, and no sound comes; then it does again.
					a.do(patience, "await lab.local.muteMicrophone()", nil)
					b.await(patience, `lab.peer("Mina").media.audio === "muted"`)
					a.do(patience, "await lab.local.unmuteMicrophone()", nil)
					b.await(patience, `lab.peer("Mina").media.audio === "on"`)
					b.awaitMore()

					wantCodecsAndLimit(a, b)
					wantFigures(t, a, b)
					changeTracks(a, b)
					restartICE(a, b)
					openEverySort(t, a, b)
					// a sends so that each make sends to each once. All that follows goes on meanwhile.
					bulk := 100 << 20
					if testing.Short() {
						bulk = 4 << 20
					}
					beginBulk(a, b, bulk)
					keepMoments(t, a, b)
					abortEverything(t, a, b)
					unplug(a, b)

					shareScreen(t, a, b)
					finishBulk(t, a, bulk)
					a.awaitMore()
					if pair == [2]browser.Engine{browser.Chromium, browser.Chromium} { // what no browser does in its own way
						lowerAndRaise(a)
						listen(t, a)
						plugIn(a, b)
						sendNothing(a, b)
						joinAgain(t, a, b, channel)
					}

					b.do(patience, "await lab.channel.leave()", nil)
					a.await(patience, `lab.left.some((l) => l.name === "Jun" && l.reason === "left") && lab.channel.peers.size === 0`)
					a.await(patience, `document.querySelectorAll("[data-peer]").length === 0 || lab.connections.every((c) => c.connectionState === "closed")`)
					a.do(patience, "await lab.channel.leave(); await lab.channel.leave();", nil)
				})
			}
		})
	}
}

// wantCodecsAndLimit checks what b prefers and a was told to keep to: by what the browsers say themselves.
func wantCodecsAndLimit(a, b *member) {
	a.t.Helper()
	for _, m := range []*member{a, b} {
		m.await(patience, `Promise.all([lab.codecs("video"), lab.codecs("audio")]).then((c) => c.join() === "VP9,opus")`)
	}
	// A bucket of some hundred milliseconds evens the rate out, and key frames are large.
	a.await(patience, "lab.sends(3000).then((bps) => bps > 10_000 && bps < 350_000)")
}

// wantFigures compares the SDK's figures with the browser's own.
func wantFigures(t *testing.T, a, b *member) {
	t.Helper()
	// A busy machine makes jitter: then the grade says so.
	a.await(patience, `["good", "fair", "poor"].includes(lab.peer("Jun").quality.grade) && (lab.peer("Jun").quality.grade === "good") === (lab.peer("Jun").quality.reason === "none")`)
	var path path
	a.do(patience, "return lab.path()", &path)
	var figures struct {
		Path                  struct{ Local, Remote, Protocol string }
		Relayed               bool
		RTT                   *float64
		Codec, Sent           string
		Width, Height         int
		Frames, Before, After int
		In, RawIn             float64
	}
	// The second reading has rates over the time between the two; the browser's own counters around it must agree.
	a.do(patience, `const peer = lab.peer("Jun");
		const raw = async () => { for (const s of (await lab.connections.at(-1).getStats()).values()) if (s.type === "inbound-rtp" && s.kind === "video") return s; };
		await peer.stats();
		const from = await raw();
		await new Promise((done) => setTimeout(done, 1500));
		const before = await raw();
		const s = await peer.stats();
		const after = await raw();
		return { Path: s.path, Relayed: s.path.relayed, RTT: s.rttMs, In: s.received.camera.bitrateBps, Codec: s.received.camera.codec, Width: s.received.camera.width,
			Height: s.received.camera.height, Frames: s.received.camera.framesDecoded, Before: before.framesDecoded, After: after.framesDecoded,
			RawIn: (after.bytesReceived - from.bytesReceived) * 8000 / (after.timestamp - from.timestamp), Sent: s.sent.camera.codec }`, &figures)
	if figures.Path.Local != path.Local || figures.Path.Remote != path.Remote || figures.Path.Protocol != path.Protocol || figures.Relayed != path.relayed() {
		t.Errorf("the SDK says that the path is %+v, the browser %v", figures.Path, path)
	}
	if figures.Codec != "VP9" || figures.Sent != "VP9" || figures.Width != 640 || figures.Height != 360 {
		t.Errorf("got codecs %s and %s at %dx%d, want VP9 at 640x360", figures.Codec, figures.Sent, figures.Width, figures.Height)
	}
	if figures.Frames < figures.Before || figures.Frames > figures.After {
		t.Errorf("the SDK counts %v frames, the browser %v before and %v after", figures.Frames, figures.Before, figures.After)
	}
	if figures.RTT == nil || *figures.RTT < 0 || *figures.RTT > 1000 {
		t.Errorf("a round trip of %s ms on loopback", js(figures.RTT))
	}
	// Readings of the SDK's own, once a second, may lie between ours.
	if figures.In < figures.RawIn/3 || figures.In > figures.RawIn*3 {
		t.Errorf("the SDK says %.0f bit/s of video, the browser %.0f", figures.In, figures.RawIn)
	}
}

// changeTracks takes another camera and microphone, then a picture of the page's own: always without negotiation.
func changeTracks(a, b *member) {
	a.t.Helper()
	const shows = `[...document.querySelectorAll('video[data-source="camera"]')].some((v) => v.videoWidth === %d)`
	a.do(patience, "lab.negotiations = 0", nil)
	a.do(patience, `lab.former = lab.local.camera.getSettings().deviceId;
		const { cameras, microphones } = await lab.sdk.media.devices();
		await lab.local.useCamera({ width: 320, height: 180, deviceId: { exact: cameras.at(-1).deviceId } });
		await lab.local.useMicrophone(microphones.at(-1).deviceId);
		if (cameras.length > 1 && lab.local.camera.getSettings().deviceId === lab.former) throw new Error("it is the same camera");`, nil)
	if err := b.WaitFor(within(a.t, patience), fmt.Sprintf(shows, 320)); err != nil {
		a.t.Fatalf("%s does not see the other camera: %v\n%s\n%s: %s", b.name, err, b.figures(), a.name, a.figures())
	}
	b.awaitMore()
	a.do(patience, `lab.local.setTrack("camera", lab.canvas(480, 272))`, nil)
	b.await(patience, shows, 480)
	a.do(patience, `await lab.local.useCamera({ width: 640, height: 360 })`, nil)
	b.await(patience, shows, 640)
	a.await(patience, "lab.negotiations === 0")
}

// unplug ends the camera's track as the browser does when a device is gone: the next of its kind takes over, without negotiation. The event is ours in
// both browsers: neither takes a fake device away while it runs (Firefox's MediaManager, when the list of devices has changed, passes over fake ones,
// and Chromium's number is fixed at its start), and a kernel without V4L2, as of many virtual machines, has no real one to take. What follows is the
// browser's own: the other camera is asked for, opened and sent.
func unplug(a, b *member) {
	a.t.Helper()
	a.do(patience, `lab.negotiations = 0; lab.gone = lab.local.camera; lab.gone.stop(); lab.gone.dispatchEvent(new Event("ended"));`, nil)
	a.await(patience, `lab.local.camera && lab.local.camera !== lab.gone && lab.local.camera.readyState === "live"`)
	b.awaitMore()
	a.await(patience, "lab.negotiations === 0")
}

// restartICE looks for a path again from either side while media goes on: by new credentials on both sides.
func restartICE(a, b *member) {
	a.t.Helper()
	const ufrags = `["localDescription", "remoteDescription"].map((which) => /ice-ufrag:(.+)/.exec(lab.connections.at(-1)[which]?.sdp)?.[1])`
	for _, sides := range [][2]*member{{a, b}, {b, a}} {
		for _, m := range sides {
			m.do(patience, "lab.before = { ufrags: "+ufrags+", connections: lab.connections.length }", nil)
		}
		sides[0].do(patience, fmt.Sprintf("lab.peer(%s).restartIce()", js(sides[1].name)), nil)
		for _, m := range sides {
			m.await(patience, ufrags+`.every((ufrag, i) => ufrag && ufrag !== lab.before.ufrags[i]) && lab.connections.at(-1).signalingState === "stable" && lab.connections.at(-1).connectionState === "connected"`)
		}
		for _, m := range sides {
			m.awaitMore()
			if a.Engine == b.Engine || sides[0].Engine == browser.Firefox { // Firefox's DTLS may fail while it answers; the SDK then begins anew
				m.await(patience, "lab.connections.length === lab.before.connections")
			}
		}
	}
}

// keepMoments records both sides as m has them, and takes a still picture of the other.
func keepMoments(t *testing.T, m, other *member) {
	t.Helper()
	ffprobe, err := exec.LookPath("ffprobe")
	if err != nil {
		lab.Missing(t, "%v", err)
	}
	var complaints []string
	for seconds := 3; ; seconds *= 2 { // of which a busy machine needs more until there is enough in them
		var recordings map[string]recorded
		m.do(patience+time.Duration(seconds)*time.Second, fmt.Sprintf(`const [camera, microphone] = ["camera", "microphone"].map((source) => lab.peer(%[1]s).tracks.get(source));
			const [local, remote, mixed] = await Promise.all([lab.record([lab.local.camera, lab.local.microphone], %[2]d), lab.record([camera, microphone], %[2]d),
				lab.recordPieces([camera, microphone, lab.local.microphone], %[2]d)]);
			return { local, remote, mixed };`, js(other.name), seconds), &recordings)
		complaints = nil
		for what, r := range recordings {
			if complaint := judgeRecording(t, ffprobe, m.Engine, r, what == "local"); complaint != "" {
				complaints = append(complaints, fmt.Sprintf("%s, %s recording of %.1f s (%s): %s", m.name, what, r.Seconds, r.Type, complaint))
			}
		}
		if len(complaints) == 0 || seconds > 20 {
			break
		}
		t.Logf("recording again, for longer: %v", complaints)
	}
	for _, complaint := range complaints {
		t.Error(complaint)
	}
	var still []byte
	m.do(patience, fmt.Sprintf(`return lab.snapshot(lab.peer(%s).tracks.get("camera"))`, js(other.name)), &still)
	picture, err := png.Decode(bytes.NewReader(still))
	if err != nil {
		t.Fatalf("%s: snapshot: %v", m.name, err)
	}
	size := picture.Bounds().Size()
	if !isCameraSize(size.X, size.Y) {
		t.Errorf("%s: a snapshot of %v, want 640x360, or that scaled down", m.name, size)
	}
	colors := map[color.Color]bool{}
	for x := range size.X {
		colors[picture.At(x, x*size.Y/size.X)] = true
	}
	if len(colors) < 2 && other.Engine == browser.Chromium { // Firefox's fake picture is of one color
		t.Errorf("%s: the snapshot is of one color", m.name)
	}
}

// isCameraSize says whether a picture that came from the other side is the camera's, of 640x360: a sender that is short of time sends it smaller.
func isCameraSize(width, height int) bool {
	return width > 0 && width <= 640 && (width*9-height*16 < 32 && height*16-width*9 < 32)
}

// A recorded file, and the time that was recorded: pauses are no part of it.
type recorded struct {
	Type    string
	Data    []byte
	Seconds float64
}

// judgeRecording says what is wrong with a recording; "" if nothing.
func judgeRecording(t *testing.T, ffprobe string, engine browser.Engine, r recorded, local bool) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "recording")
	if err := os.WriteFile(file, r.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), ffprobe, "-v", "error", "-of", "json", "-show_streams", "-show_entries", "packet=stream_index,pts_time", file).Output()
	if err != nil {
		return fmt.Sprintf("ffprobe, of %d bytes: %v", len(r.Data), err)
	}
	var found struct {
		Streams []struct {
			Name          string `json:"codec_name"`
			Width, Height int
		}
		Packets []struct {
			Stream int    `json:"stream_index"`
			At     string `json:"pts_time"`
		}
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return fmt.Sprintf("ffprobe says %q", out)
	}
	codecs := map[string]int{}
	last := map[string]float64{}
	for _, p := range found.Packets {
		name := found.Streams[p.Stream].Name
		codecs[name]++
		if at, err := strconv.ParseFloat(p.At, 64); err == nil {
			last[name] = max(last[name], at)
		}
	}
	picture := "vp9"
	if engine == browser.Firefox {
		picture = "vp8" // all that it can write
	}
	// A page that is slow to start may miss a little. A pause of two seconds is no part of it, but a busy browser is late to begin it.
	if longest := r.Seconds + 1.5; codecs[picture] < 15 || codecs["opus"] < 30 || last[picture] < 2 || last[picture] > longest || last["opus"] < 2 || last["opus"] > longest {
		return fmt.Sprintf("%v packets until %v s, want %s and opus", codecs, last, picture)
	}
	for _, s := range found.Streams {
		if s.Name == picture && (!isCameraSize(s.Width, s.Height) || local && s.Width != 640) {
			return fmt.Sprintf("a picture of %dx%d, want 640x360", s.Width, s.Height)
		}
	}
	return ""
}

// openEverySort opens data channels of each sort of delivery.
func openEverySort(t *testing.T, a, b *member) {
	t.Helper()
	const count = 50
	for label, options := range map[string]string{
		"ordered": "{}", "unordered": "{ ordered: false }", "once": "{ ordered: false, maxRetransmits: 0 }", "brief": "{ maxPacketLifeTime: 100 }",
	} {
		a.do(patience, fmt.Sprintf(`const link = await lab.peer("Jun").openData(%s, %s); for (let i = 0; i < %d; i++) await link.send(String(i));`, js(label), options, count), nil)
		if label == "once" || label == "brief" { // may lose some
			b.await(patience, "lab.blobs[%s]?.length > 0", js(label))
		} else {
			b.await(patience, "lab.blobs[%s]?.length === %d", js(label), count)
		}
		var got struct {
			Ordered                           bool
			MaxRetransmits, MaxPacketLifeTime *int
			InOrder                           bool
		}
		b.do(patience, fmt.Sprintf(`const all = lab.blobs[%s].map(Number); return { ...lab.opened[%[1]s], inOrder: all.every((n, i) => i === 0 || n > all[i - 1]) }`, js(label)), &got)
		if want := label == "ordered" || label == "brief"; got.Ordered != want || want && !got.InOrder {
			t.Errorf("%s: ordered %v, in order %v", label, got.Ordered, got.InOrder)
		}
		if (got.MaxRetransmits != nil) != (label == "once") || (got.MaxPacketLifeTime != nil) != (label == "brief") {
			t.Errorf("%s: got retransmits %v and life time %v", label, got.MaxRetransmits, got.MaxPacketLifeTime)
		}
	}
	// The one that all messages share, and its bounds.
	b.do(patience, `lab.peer("Mina").on("message", (data) => { lab.said = data; })`, nil)
	a.do(patience, `await lab.peer("Jun").send("plain")`, nil)
	b.await(patience, `lab.said === "plain"`)
	var code string
	a.do(patience, `return lab.peer("Jun").send(new Uint8Array(256 * 1024 + 1)).then(() => "", (e) => e.code)`, &code)
	if code != "message_too_big" {
		t.Errorf("a message of more than 256 KiB: got %q", code)
	}
}

// shareScreen shows a second picture beside the camera's: a screen with its sound, or, from Firefox, which has none to share when headless, a picture of
// the page's own in its place. The SDK does the same with both.
func shareScreen(t *testing.T, a, b *member) {
	t.Helper()
	before := b.received()
	streams, ended := 4, `lab.ended.includes("screen") && lab.ended.includes("screen-audio")`
	if a.Engine == browser.Chromium {
		a.do(patience, "await lab.local.shareScreen()", nil)
	} else {
		streams, ended = 3, `lab.ended.includes("screen")`
		a.do(patience, `lab.local.setTrack("screen", lab.canvas(1280, 720))`, nil)
	}
	// In full size, even at the beginning, when little is known of the bandwidth.
	var size struct{ Width, Height int }
	a.do(patience, "return lab.local.screen.getSettings()", &size)
	if size.Width < 1280 {
		t.Errorf("the browser shares a screen of %dx%d, want one that is larger than the camera's picture", size.Width, size.Height)
	}
	shown := fmt.Sprintf(`(() => { const v = document.querySelector('video[data-source="screen"]'); return v && v.videoWidth === %d && v.videoHeight === %d && v.currentTime > 0; })()`, size.Width, size.Height)
	if err := b.WaitFor(within(t, patience), shown); err != nil {
		t.Fatalf("%s does not see the screen: %v\n%s\nMina: %s", b.name, err, b.figures(), a.figures())
	}
	b.await(patience, `lab.received().then((r) => r.streams >= %d && r.frames > %d)`, streams, before.Frames)
	if a.Engine == browser.Chromium {
		b.await(patience, `lab.peer("Mina").tracks.get("screen-audio")?.kind === "audio"`)
	}
	b.await(patience, `lab.peer("Mina").stats().then((s) => s.received.screen.width === %d)`, size.Width)
	a.await(patience, `lab.connections.at(-1).getSenders().find((s) => s.track === lab.local.screen).getParameters().degradationPreference === "maintain-resolution"`)
	b.await(patience, `lab.peer("Mina").media.screen === "on"`)
	a.do(patience, "await lab.local.stopScreen()", nil)
	b.await(patience, `%s && lab.peer("Mina").media.screen === "off"`, ended)
	b.awaitMore()
}

// lowerAndRaise changes the most that is sent while the call goes on. Something is sent that has no end of detail.
func lowerAndRaise(m *member) {
	m.t.Helper()
	m.do(patience, `lab.channel.setMaxBitrate({ video: 100_000 })`, nil)
	m.await(patience, "lab.sends(1000).then((bps) => bps > 1_000 && bps < 140_000)")
	m.do(patience, `lab.channel.setMaxBitrate({})`, nil)
	m.await(patience, "lab.sends(1000).then((bps) => bps > 300_000)")
}

// listen measures how loud both sides are, and plays the other on a speaker that is chosen.
func listen(t *testing.T, m *member) {
	t.Helper()
	for _, track := range []string{`lab.peer("Jun").tracks.get("microphone")`, "lab.local.microphone"} {
		m.do(patience, fmt.Sprintf(`const track = %s;
			const until = new AbortController();
			let levels = 0;
			await new Promise((done) => lab.sdk.levelMeter(track, (level) => ++levels && level > 0 && level <= 1 && done(), { signal: until.signal }));
			until.abort();
			const before = levels;
			let later = 0;
			await new Promise((done) => { const stop = lab.sdk.levelMeter(track, () => { if (++later === 3) done(stop()); }); });
			if (levels !== before) throw new Error("an aborted meter goes on");`, track), nil)
	}
	var codes []string
	m.do(patience, `const audio = document.querySelector("audio");
		const { speakers } = await lab.sdk.media.devices();
		const use = (id) => lab.sdk.media.useSpeaker(audio, id).then(() => audio.sinkId, (e) => e.code);
		return [await use(speakers.at(-1).deviceId) === speakers.at(-1).deviceId ? "" : "another speaker", await use("nobody's"), await use("")];`, &codes)
	if want := []string{"", "device_not_found", ""}; !slices.Equal(codes, want) {
		t.Errorf("choosing speakers: got %q, want %q", codes, want)
	}
}

// plugIn takes the only camera away, and then there is one again. The browser's answers in between are ours: see unplug.
func plugIn(a, b *member) {
	a.t.Helper()
	a.do(patience, `lab.negotiations = 0;
		lab.gone = lab.local.camera;
		lab.asked = 0;
		navigator.mediaDevices.getUserMedia = async () => { lab.asked++; throw new DOMException("no camera", "NotFoundError"); };
		lab.gone.stop();
		lab.gone.dispatchEvent(new Event("ended"));`, nil)
	a.await(patience, `lab.asked === 1 && lab.local.camera === null && lab.local.state.video === "off"`)
	b.await(patience, `lab.peer("Mina").media.video === "off" && !lab.peer("Mina").tracks.has("camera")`)
	a.do(patience, `lab.devices = new Promise((done) => lab.sdk.media.on("devices-changed", done, { once: true }));
		delete navigator.mediaDevices.getUserMedia;
		navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
		if (!(await lab.devices).cameras.length) throw new Error("no cameras are listed");`, nil)
	a.await(patience, `lab.local.camera?.readyState === "live" && lab.local.state.video === "on"`)
	b.await(patience, `lab.peer("Mina").tracks.has("camera")`)
	b.awaitMore()
	a.await(patience, "lab.negotiations === 0")
}

// sendNothing: whoever may not send, or has nothing published, sends nothing, and is heard and seen again afterwards.
func sendNothing(host, m *member) {
	host.t.Helper()
	const silent = `lab.peer("Jun").tracks.size === 0`
	host.do(patience, `await lab.channel.setRole(lab.peer("Jun"), "viewer")`, nil)
	m.await(patience, `lab.channel.me.role === "viewer" && lab.connections.at(-1).getSenders().every((s) => s.track === null)`)
	host.await(patience, silent)
	host.do(patience, `await lab.channel.setRole(lab.peer("Jun"), "speaker")`, nil)
	host.await(patience, `lab.peer("Jun").tracks.size === 2`)
	host.awaitMore()
	m.do(patience, "lab.channel.unpublish()", nil)
	m.await(patience, `lab.connections.at(-1).getSenders().every((s) => s.track === null) && lab.local.camera.readyState === "live"`)
	host.await(patience, silent)
	m.do(patience, "lab.channel.publish(lab.local)", nil)
	host.await(patience, `lab.peer("Jun").tracks.size === 2`)
	host.awaitMore()
}

// joinAgain comes with other codecs, and at last over the relay alone: then the others learn no address of this machine.
func joinAgain(t *testing.T, stays, comes *member, channel string) {
	t.Helper()
	for _, c := range []struct {
		codec   string
		options map[string]any
	}{
		{"H264", nil}, {"AV1", map[string]any{"iceTransportPolicy": "relay"}},
	} {
		comes.do(patience, "await lab.channel.leave()", nil)
		stays.await(patience, "lab.channel.peers.size === 0")
		options := map[string]any{"codecs": map[string]any{"video": []string{c.codec}}}
		maps.Copy(options, c.options)
		comes.join(channel, options)
		for _, m := range []*member{stays, comes} {
			m.awaitMedia(2)
			m.await(patience, `lab.codecs("video").then((codec) => codec === %s)`, js(c.codec))
		}
	}
	var far, near path
	comes.do(patience, "return lab.path()", &near)
	stays.do(patience, "return lab.path()", &far)
	if near.Local != "relay" || far.Remote != "relay" {
		t.Errorf("relayed on wish, one side is on the path %v, the other on %v", near, far)
	}
	var candidates []string
	stays.do(patience, `return lab.connections.at(-1).remoteDescription.sdp.match(/a=candidate:.+/g)`, &candidates)
	for _, candidate := range candidates {
		if !strings.Contains(candidate, " typ relay raddr 0.0.0.0 rport 0 ") {
			t.Errorf("relayed on wish, it told %q", candidate)
		}
	}
	if len(candidates) == 0 {
		t.Error("it told no candidate")
	}
}

// abortEverything calls off whatever can be waited for.
func abortEverything(t *testing.T, a, b *member) {
	t.Helper()
	for _, call := range []string{
		`lab.sdk.join({ server: lab.server, channel: "elsewhere", signal })`,
		`lab.sdk.media.open({ video: true, signal })`,
		`lab.sdk.media.devices({ signal })`,
		`lab.sdk.media.useSpeaker(new Audio(), "", { signal })`,
		`lab.local.useCamera({ width: 320 }, { signal })`,
		`lab.local.shareScreen({ signal })`,
		`(await lab.sdk.media.open()).unmuteCamera({ signal })`,
		`(await lab.sdk.media.open()).unmuteMicrophone({ signal })`,
		`lab.channel.update({ name: "Mina" }, { signal })`,
		`lab.channel.accept("nobody", { signal })`,
		`lab.channel.reject("nobody", "busy", { signal })`,
		`lab.channel.kick("nobody", { signal })`,
		`lab.channel.setRole("nobody", "viewer", { signal })`,
		`lab.channel.configure({ locked: false }, { signal })`,
		`lab.channel.stats({ signal })`,
		`lab.peer("Jun").stats({ signal })`,
		`lab.channel.sendChat("never", { signal })`,
		`lab.channel.sendCommand("never", null, { signal })`,
		`lab.peer("Jun").openData("never", { signal })`,
		`lab.peer("Jun").send("never", { signal })`,
		`lab.sdk.snapshot(lab.local.camera, { signal })`,
		`(async () => lab.sdk.record(lab.local.microphone, { signal }).stop({ signal }))()`,
	} {
		for when, abort := range map[string]string{"before": "controller.abort(); const waiting = %s;", "meanwhile": "const waiting = %s; controller.abort();"} {
			var code string
			a.do(patience, fmt.Sprintf(`const controller = new AbortController(); const { signal } = controller; `+abort+` return waiting.then(() => "", (e) => e.code)`, call), &code)
			if code != "aborted" {
				t.Errorf("%s, aborted %s: got %q", call, when, code)
			}
		}
	}
	a.awaitMore()
	b.await(patience, `lab.channel.peers.size === 1`)
}

// beginBulk sends pseudo-random bytes on a data channel, for finishBulk to look at.
func beginBulk(from, to *member, size int) {
	from.t.Helper()
	from.do(patience, fmt.Sprintf("window.bulk = lab.sendBulk(%s, %d, 65536); window.bulk.catch(() => {});", js(to.name), size), nil)
}

func finishBulk(t *testing.T, from *member, size int) {
	t.Helper()
	var result struct {
		Sent, Received string
		Most           int
		MS             float64
	}
	from.do(4*time.Minute, "return window.bulk", &result)
	if result.Sent != result.Received || len(result.Sent) != 64 {
		t.Errorf("SHA-256 of what was sent %s, of what was received %s", result.Sent, result.Received)
	}
	// Back-pressure: the browser never holds more than a few messages' worth.
	if limit := 16 << 20; result.Most > limit {
		t.Errorf("%d bytes were buffered at once, want at most %d", result.Most, limit)
	}
	t.Logf("%d MiB in %.1f s (%.1f MiB/s), at most %d KiB buffered", size>>20, result.MS/1000, float64(size)/(1<<20)/(result.MS/1000), result.Most>>10)
}

// TestMeshOfThree: everybody sees and hears everybody, one of them in another make of browser.
func TestMeshOfThree(t *testing.T) {
	node := serve(t, lab.NodeConfig{})
	site := blankPages(t, nil, nil)
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	firefox := browser.Start(t, browser.Firefox, browser.Options{})
	members := []*member{
		newMember(t, chromium, site, node.HTTP, "one"),
		newMember(t, chromium, site, node.HTTP, "two"),
		newMember(t, firefox, site, node.HTTP, "three"),
	}
	channel := channelName(t)
	for _, m := range members {
		m.join(channel, nil)
	}
	for _, m := range members {
		m.awaitMedia(4)
	}
	chat(members[0], "to all", members[1], members[2])
	// One leaves; the call of the others goes on.
	members[1].do(patience, "await lab.channel.leave()", nil)
	for _, m := range []*member{members[0], members[2]} {
		m.await(patience, "lab.channel.peers.size === 1")
		m.awaitMore()
	}
}

// TestRing: the members are asked first.
func TestRing(t *testing.T) {
	t.Parallel()
	node := serve(t, lab.NodeConfig{})
	site := blankPages(t, nil, nil)
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	host := newMember(t, chromium, site, node.HTTP, "host")
	guest := newMember(t, chromium, site, node.HTTP, "guest")
	channel := channelName(t)
	host.join(channel, nil)
	// Nobody answers this one; it takes 45 seconds to see, while the others are answered.
	deaf := newMember(t, chromium, site, node.HTTP, "deaf")
	deaf.join(channel+".deaf", map[string]any{"withMedia": false})
	patient := newMember(t, chromium, site, node.HTTP, "patient")
	patient.do(patience, fmt.Sprintf(`window.rung = lab.join({ channel: %s, key: %s, name: "patient", ring: true }).then(() => "joined", (e) => e.code)`, js(channel+".deaf"), js(sandboxKey)), nil)
	ring := fmt.Sprintf(`window.rung = lab.join({ channel: %s, key: %s, name: "guest", ring: true }).then(() => "joined", (e) => e.code);`, js(channel), js(sandboxKey))
	const ringer = `(await (async () => { for (;;) { if (lab.waiting?.length) return lab.waiting.shift(); await new Promise((r) => setTimeout(r, 20)); } })())`
	host.do(patience, `lab.waiting = []; lab.channel.on("ring", (peer) => lab.waiting.push(peer));`, nil)
	for _, answer := range []struct{ script, want string }{
		{`await lab.channel.reject(` + ringer + `)`, "rejected"},
		{`await lab.channel.reject(` + ringer + `, "busy")`, "busy"},
		{`await lab.channel.accept(` + ringer + `)`, "joined"},
	} {
		guest.do(patience, ring, nil)
		host.do(patience, answer.script, nil)
		var got string
		guest.do(patience, "return window.rung", &got)
		if got != answer.want {
			t.Errorf("got %q, want %q", got, answer.want)
		}
	}
	host.awaitMedia(2)
	guest.awaitMedia(2)

	// Called off before anybody has answered.
	host.do(patience, `lab.over = []; lab.channel.on("ring-ended", (peer, reason) => lab.over.push(reason));`, nil)
	var code string
	patient.do(patience, fmt.Sprintf(`const hangUp = new AbortController();
		return lab.sdk.join({ server: lab.server, channel: %s, key: %s, name: "hasty", ring: true, signal: hangUp.signal, onPending: () => hangUp.abort() }).then(() => "joined", (e) => e.code)`,
		js(channel), js(sandboxKey)), &code)
	if code != "aborted" {
		t.Errorf("a ring that was called off: got %q", code)
	}
	host.await(patience, `lab.over.at(-1) === "cancelled"`)
	for _, m := range []*member{guest, host} { // whose call would only keep the machine busy
		m.do(patience, "await lab.channel.leave()", nil)
	}
	patient.do(patience+30*time.Second, "return window.rung", &code)
	if code != "ring_timeout" {
		t.Errorf("a ring that nobody answered: got %q", code)
	}
}
