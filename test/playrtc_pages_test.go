//go:build linux

package test

import (
	"embed"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

// The pages in playrtc/ are ours: they have the elements, the calls and the order of calls of the PlayRTC sample pages, whose list is in
// docs/playrtc.md. They know nothing of Madang but what www.playrtc.com serves.
//
//go:embed playrtc
var playrtcFiles embed.FS

// A playrtcLab is a node that browsers take for www.playrtc.com, and a site with the pages.
type playrtcLab struct {
	node    *lab.Node
	browser *browser.Browser
	site    string
}

func newPlayRTCLab(t testing.TB, engine browser.Engine) *playrtcLab {
	t.Helper()
	node := serve(t, lab.NodeConfig{})
	site := playrtcSite(t, node)
	at, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	b := browser.Start(t, engine, browser.Options{Hosts: map[string]string{
		"www.playrtc.com": strings.TrimPrefix(node.HTTP, "http://"), "maxcdn.bootstrapcdn.com": at.Host,
	}})
	return &playrtcLab{node, b, "http://localhost:" + at.Port()}
}

// playrtcSite serves the pages, an empty style sheet, and, for the page that has the SDK beside it, the node's files.
func playrtcSite(t testing.TB, node *lab.Node) string {
	t.Helper()
	pages, err := fs.Sub(playrtcFiles, "playrtc")
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(node.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(pages))
	mux.HandleFunc("/favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/bootstrap/", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/css") })
	mux.HandleFunc("/itsquare/playrtc.js", func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/sdk/js/playrtc.js"
		proxy.ServeHTTP(w, r)
	})
	mux.Handle("/v1/", proxy)
	mux.Handle("/v3/", proxy)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: mux}}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// A playrtcPage is one of the pages in a browser.
type playrtcPage struct {
	*member
}

// open opens a page with playrtc/page.js in it.
func (l *playrtcLab) open(t testing.TB, path string) *playrtcPage {
	t.Helper()
	script, err := playrtcFiles.ReadFile("playrtc/page.js")
	if err != nil {
		t.Fatal(err)
	}
	p := &playrtcPage{&member{l.browser.Open(t, ""), t, path}}
	if err := p.Preload(within(t, patience), string(script)); err != nil {
		t.Fatal(err)
	}
	if err := p.Navigate(within(t, patience), l.site+"/"+path); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *playrtcPage) click(id string) {
	p.t.Helper()
	p.do(patience, fmt.Sprintf("document.getElementById(%s).click()", js(id)), nil)
}

func (p *playrtcPage) fill(id, text string) {
	p.t.Helper()
	p.do(patience, fmt.Sprintf("document.getElementById(%s).value = %s", js(id), js(text)), nil)
}

// create makes a channel and returns its id.
func (p *playrtcPage) create() string {
	p.t.Helper()
	p.click("createChannel")
	return p.channelID("createChannelId")
}

func (p *playrtcPage) channelID(input string) (id string) {
	p.t.Helper()
	if err := p.WaitForValue(within(p.t, patience), fmt.Sprintf("document.getElementById(%s).value", js(input)), &id); err != nil {
		p.t.Fatal(err)
	}
	if !strings.HasPrefix(id, "CHS") {
		p.t.Fatalf("got the channel id %q, want CHS…", id)
	}
	return id
}

// connect makes a channel with the page's caller and enters it with its callee.
func (p *playrtcPage) connect() {
	p.t.Helper()
	p.fill("connectChannelId", p.create())
	p.click("connectChannel")
}

func (p *playrtcPage) plays(ids ...string) {
	p.t.Helper()
	for _, id := range ids {
		p.await(patience, "plays(%s)", js(id))
	}
}

// allPlay waits for the four pictures of a page with two ends.
func (p *playrtcPage) allPlay() {
	p.t.Helper()
	p.plays("callerLocalVideo", "callerRemoteVideo", "calleeLocalVideo", "calleeRemoteVideo")
}

// records starts, stops and saves a recording with the buttons that end in suffix, and looks at the file. The page keeps the recording in variable.
func (p *playrtcPage) records(suffix, variable, file, label string) {
	p.t.Helper()
	p.click("start" + suffix)
	p.do(patience, "await new Promise((r) => setTimeout(r, 1500))", nil) // of recording, which is what takes time here
	p.click("stop" + suffix)
	p.await(patience, "%s", variable)
	p.click("save" + suffix)
	p.await(patience, "downloads[0].name === %s && downloads[0].blob.size > 1000 && downloads[0].blob.type === %s", js(file), js(label))
}

func inPlayRTCBrowsers(t *testing.T, test func(*testing.T, *playrtcLab)) {
	if testing.Short() {
		t.Skip("starts browsers")
	}
	for _, engine := range []browser.Engine{browser.Chromium, browser.Firefox} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, newPlayRTCLab(t, engine))
		})
	}
}

// TestPlayRTCPages goes through the sample pages' checklist, and sees in each what its reader was to see.
func TestPlayRTCPages(t *testing.T) {
	t.Parallel()
	rows := []struct {
		path string
		test func(*testing.T, *playrtcLab, *playrtcPage)
	}{
		{"basic/get-media.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.create()
			p.plays("localVideo")
			p.await(patience, "document.getElementById('localVideo').muted")
		}},
		{"basic/mediastream-audio.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			other := l.open(t, "basic/mediastream-audio.html")
			other.fill("connectChannelId", p.create())
			other.click("connectChannel")
			p.plays("remoteAudio")
			other.plays("remoteAudio")
		}},
		{"basic/mediastream-video.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.allPlay()
		}},
		{"basic/calling.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.allPlay()
			p.await(patience, "dialogs.length === 1 && dialogs[0] === 'Would you like to get a call?'")
			declined := l.open(t, "basic/calling.html")
			declined.do(patience, "window.answer = false; appCallee.on('reject', () => { window.rejected = true; })", nil)
			declined.connect()
			declined.await(patience, "window.rejected && dialogs.length === 1")
			declined.await(patience, "appCallee.getAllPeer().length === 0 && appCaller.getAllPeer().length === 0 && !document.getElementById('calleeRemoteVideo').srcObject")
		}},
		{"playrtc-channel-service/channel.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			id := p.create()
			listed := fmt.Sprintf("document.querySelector('[data-channelid=%s]')", id)
			p.await(patience, "(document.getElementById('refreshChannel').click(), new Promise((r) => setTimeout(r, 50)).then(() => %s))", listed)
			p.click("disconnectChannel")
			p.await(patience, "document.getElementById('createChannelId').value === ''")
			p.await(patience, "(document.getElementById('refreshChannel').click(), new Promise((r) => setTimeout(r, 50)).then(() => %s))", listed)
			p.fill("createChannelId", id)
			p.click("connectChannel")
			p.await(patience, "app.getChannelId() === %s", js(id))
			p.click("deleteChannel")
			p.await(patience, "document.getElementById('createChannelId').value === ''")
			p.await(patience, "(document.getElementById('refreshChannel').click(), new Promise((r) => setTimeout(r, 50)).then(() => !%s))", listed)
			p.await(patience, "dialogs.length === 0")
		}},
		{"datachannel/datachannel-text.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.await(patience, "appCaller.getAllPeer().length === 1")
			p.fill("sendMessage", "한글, わご, 中文")
			p.click("send")
			p.await(patience, "document.getElementById('recevedMessage').value === '한글, わご, 中文'")
		}},
		{"datachannel/datachannel-file.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			sendsFile(p, 300_000)
		}},
		{"datachannel/datachannel-big-file.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			sendsFile(p, 5_000_000)
			p.await(patience, "document.getElementById('receiveProgressbar').style.width === '100%%'")
		}},
		{"record/local-audio-record.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.click("createChannel")
			p.plays("localVideo")
			p.records("Record", "recording", "local-audio.wav", "audio/ogg; codecs=opus")
		}},
		{"record/local-video-record.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.click("createChannel")
			p.plays("localVideo")
			p.records("Record", "recording", "local-video.webm", "video/webm")
			p.playsBack()
		}},
		{"record/remote-audio-record.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.allPlay()
			p.records("Record", "recording", "remote-audio.wav", "audio/ogg; codecs=opus")
		}},
		{"record/remote-video-record.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.allPlay()
			p.records("Record", "recording", "remote-video.webm", "video/webm")
			p.playsBack()
		}},
		{"utility/check-peer-info.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.await(patience, "appCallee.getAllPeer()?.length === 1")
			p.click("checkPeerCaller")
			p.click("checkPeerCallee")
			for who, name := range map[string]string{"caller": "Caller", "callee": "Callee"} {
				p.await(patience, "((peer) => peer.id.startsWith('TKS') && peer.uid === %s && peer.userName === %s && peer.env.networkType === 'wired')(JSON.parse(document.getElementById(%s).textContent))",
					js(who), js(name), js(who+"PeerInfo"))
			}
		}},
		{"utility/custom-media-quality.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			for _, size := range []string{"320*240", "640*480"} {
				p.do(patience, fmt.Sprintf("document.getElementById('videoResolution').value = %s; document.getElementById('createChannelId').value = ''", js(size)), nil)
				p.create()
				p.plays("localVideo")
				width, height, _ := strings.Cut(size, "*")
				p.await(patience, "((v) => v.videoWidth === %s && v.videoHeight === %s && v.width === %s)(document.getElementById('localVideo'))", width, height, width)
			}
		}},
		{"utility/userCommand.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.await(patience, "appCaller.getAllPeer().length === 1")
			p.fill("sendMessage", "raise-hand")
			p.click("send")
			p.await(patience, "document.getElementById('recevedMessage').value === 'raise-hand'")
		}},
		{"utility/startStatsReport.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.allPlay() // the listeners return false: the SDK attaches all the same
			p.click("startCallerStatsReport")
			p.click("startCalleeStatsReport")
			for _, who := range []string{"caller", "callee"} {
				for _, what := range []string{"Width", "Height", "Bitrate"} {
					p.await(patience, "Number(document.getElementById(%s).textContent) > 0", js(who+what))
				}
			}
			for _, id := range []string{"rttRating1", "rttRating2", "fractionRating1", "fractionRating2"} {
				p.await(patience, "/^[1-5]$/.test(document.getElementById(%s).textContent)", js(id))
			}
			p.click("stopCallerStatsReport")
		}},
		{"full-features/full-features.html", fullFeatures},
		{"full-features/full-features-config.html", fullConfig},
		{"full-features/full-features-config-mute.html", fullMute},
		{"full-features/full-features-config_test.html", fullConfig},
		{"experimental/multiple-call.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.create()
			p.await(patience, "app.getMedia().getVideoTrack().readyState === 'live' && !document.querySelector('video')")
		}},
		{"experimental/multiple-video-input.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.create()
			p.plays("localVideo")
		}},
		{"itsquare/index.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.allPlay()
			p.await(patience, "dialogs[0] === '1:1'")
			for radio, text := range map[string]string{"radio_broadcast": "1:N", "radio_composite": "N:N"} {
				other := l.open(t, "itsquare/index.html")
				other.do(patience, fmt.Sprintf("document.getElementById(%s).checked = true", js(radio)), nil)
				other.connect()
				other.allPlay() // sound only
				other.await(patience, "dialogs[0] === %s", js(text))
			}
		}},
		{"docs/hello-world.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			other := l.open(t, "docs/hello-world.html")
			p.click("createChannelButton")
			other.fill("channelIdInput", p.channelID("channelIdInput"))
			other.click("connectChannelButton")
			for _, page := range []*playrtcPage{p, other} {
				page.plays("localVideo", "remoteVideo")
			}
		}},
		{"docs/simple-video-chat.html", func(t *testing.T, l *playrtcLab, p *playrtcPage) {
			p.connect()
			p.allPlay()
		}},
	}
	inPlayRTCBrowsers(t, func(t *testing.T, l *playrtcLab) {
		for _, row := range rows {
			t.Run(strings.TrimSuffix(row.path, ".html"), func(t *testing.T) { row.test(t, l, l.open(t, row.path)) })
		}
	})
}

// playsBack waits until the saved recording plays.
func (p *playrtcPage) playsBack() {
	p.t.Helper()
	p.do(patience, "window.player = document.createElement('video'); player.muted = true; player.src = URL.createObjectURL(downloads[0].blob); await player.play()", nil)
	p.await(patience, "player.videoWidth > 0 && player.currentTime > 0.2")
}

func sendsFile(p *playrtcPage, size int) {
	p.t.Helper()
	p.connect()
	p.await(patience, "appCaller.getAllPeer().length === 1")
	p.do(patience, fmt.Sprintf("choose('seclectFile', '보고서.bin', %d)", size), nil)
	p.click("send")
	p.await(patience, "dialogs.some((text) => text === 'A file received: 보고서.bin')")
	p.click("receive")
	p.await(patience, "downloads.length === 1 && downloads[0].name === '보고서.bin' && same(downloads[0].blob, %d)", size)
}

func fullFeatures(t *testing.T, l *playrtcLab, p *playrtcPage) {
	other := l.open(t, "full-features/full-features.html")
	fullCall(p, other)
	p.fill("sendMessage", "안녕")
	p.click("sendText")
	other.await(patience, "document.getElementById('timeline').textContent === 'alice: 안녕'")
	p.do(patience, "choose('selectFile', 'a.bin', 100_000)", nil)
	p.click("sendFile")
	other.await(patience, "downloads.length === 1 && downloads[0].name === 'a.bin' && same(downloads[0].blob, 100_000)")
	other.await(patience, "document.getElementById('sendFileToRemoteBar').style.width === '100%%'")
	other.do(patience, "downloads.length = 0", nil)
	other.records("RemoteVideoRecord", "recordings.Remote", "Remote.webm", "video/webm")
	// Its icon has no channel id.
	other.click("disconnectChannel")
	other.await(patience, "document.getElementById('createChannelId').value === ''")
	p.await(patience, "!document.getElementById('remoteVideo').srcObject && document.getElementById('timeline').textContent === ''")
	other.await(patience, "document.querySelector('#channelList .icon')")
	other.do(patience, "document.querySelector('#channelList .icon').click()", nil)
	other.await(patience, "app.getChannelId() === null")
}

// fullCall connects two pages of the full-features family, the second by a click into its list.
func fullCall(p, other *playrtcPage) {
	p.t.Helper()
	p.fill("userId", "alice")
	other.fill("userId", "bob")
	id := p.create()
	other.click("refreshChannel")
	other.await(patience, "document.querySelector('[data-channelid=%s]')", id)
	other.do(patience, fmt.Sprintf("document.querySelector('[data-channelid=%s]').click()", id), nil)
	for _, page := range []*playrtcPage{p, other} {
		page.plays("localVideo", "remoteVideo")
	}
}

func fullConfig(t *testing.T, l *playrtcLab, p *playrtcPage) {
	path := strings.TrimPrefix(p.name, l.site)
	other := l.open(t, path)
	for _, page := range []*playrtcPage{p, other} {
		page.do(patience, "document.getElementById('ckbRing').checked = true", nil)
		page.click("configSave")
		page.await(patience, "dialogs.includes('save completed!!')")
	}
	fullCall(p, other)
	p.await(patience, "dialogs.includes('수락?')")
	other.await(patience, "document.getElementById('localVideo').videoWidth <= 320")
}

func fullMute(t *testing.T, l *playrtcLab, p *playrtcPage) {
	other := l.open(t, "full-features/full-features-config-mute.html")
	fullCall(p, other)
	for box, track := range map[string]string{
		"localAudioMute": "app.getMedia().getAudioTrack()", "localVideoMute": "app.getMedia().getVideoTrack()",
		"remoteAudioMute": "app.getAllPeer()[0].getMedia().getAudioTrack()", "remoteVideoMute": "app.getAllPeer()[0].getMedia().getVideoTrack()",
	} {
		p.await(patience, "%s.enabled", track)
		p.click(box)
		p.await(patience, "!%s.enabled", track)
		p.click(box)
		p.await(patience, "%s.enabled", track)
	}
}

// TestPlayRTCEndToEnd holds the four end-to-end tests to their own times, which the old platform was tested with.
func TestPlayRTCEndToEnd(t *testing.T) {
	const second = time.Second
	inPlayRTCBrowsers(t, func(t *testing.T, l *playrtcLab) {
		press := func(p *playrtcPage, id string) {
			t.Helper()
			if err := p.Click(within(t, patience), "#"+id); err != nil {
				t.Fatal(err)
			}
		}
		p2p := func(t *testing.T, p *playrtcPage) {
			press(p, "createChannel")
			p.await(5*second+5*second, "document.getElementById('callerLocalVideo').readyState === 4")
			p.fill("connectChannelId", p.channelID("createChannelId"))
			press(p, "connectChannel")
			p.await(5*second+10*second, "document.getElementById('callerRemoteVideo').readyState === 4")
		}
		t.Run("p2p, with the log panel", func(t *testing.T) {
			p := l.open(t, "basic/mediastream-video.html")
			p.do(patience, `await new Promise((resolve, reject) => {
				const script = document.createElement("script");
				Object.assign(script, { src: new URL("playrtc-debug-view.js", [...document.scripts].find((s) => /playrtc[a-z_.]*\.js$/.test(s.src)).src).href, onload: resolve, onerror: reject });
				document.head.append(script);
			});
			window.panel = [...document.body.children].find((e) => e.textContent.startsWith("LOG VIEW"));
			window.lines = (kind) => [...panel.querySelectorAll("[data-kind" + (kind ? "=" + kind : "") + "]")];
			window.push = (label) => [...panel.querySelectorAll("button")].find((b) => b.textContent === label).click();`, nil)
			p.await(patience, "panel.offsetHeight === 400")
			p.do(patience, "push('Close')", nil) // it lies on the page's buttons where the window is low
			p.await(patience, "panel.offsetHeight === 0")
			p2p(t, p)
			p.do(patience, "PlayRTC.utils.debugViewShow()", nil)
			p.await(patience, "lines('trace').some((line) => line.offsetHeight > 0)")
			p.do(patience, "push('Error')", nil)
			p.await(patience, "lines('trace').every((line) => line.hidden)")
			p.do(patience, "push('All'); push('Close')", nil)
			p.await(patience, "panel.offsetHeight === 0 && lines().every((line) => !line.hidden)")
			p.do(patience, "PlayRTC.utils.debugViewShow()", nil)
			p.await(patience, "panel.offsetHeight === 400")
		})
		t.Run("p2p call", func(t *testing.T) {
			p := l.open(t, "basic/calling.html")
			p.fill("connectChannelId", p.create())
			press(p, "connectChannel")
			p.await(second, "dialogs.length === 1")
			p.await(10*second, "document.getElementById('callerRemoteVideo').readyState === 4")
		})
		t.Run("text without waiting", func(t *testing.T) {
			p := l.open(t, "datachannel/datachannel-text.html")
			p.fill("connectChannelId", p.create())
			for _, text := range []string{"This is message", "한글, わご, 中文"} {
				if text == "This is message" {
					press(p, "connectChannel")
				}
				p.do(patience, "document.getElementById('sendMessage').value = ''", nil)
				if err := p.Click(within(t, patience), "#sendMessage"); err != nil {
					t.Fatal(err)
				}
				if err := p.Type(within(t, patience), "#sendMessage", text); err != nil {
					t.Fatal(err)
				}
				press(p, "send")
				p.await(second, "document.getElementById('recevedMessage').value === %s", js(text))
			}
		})
		t.Run("separate page", func(t *testing.T) {
			l.open(t, "basic/mediastream-video.html")
			p2p(t, l.open(t, "basic/mediastream-video.html"))
		})
	})
}
