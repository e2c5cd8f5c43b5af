//go:build linux

package test

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
	"github.com/madang-rtc/madang/internal/lab/browser"
)

//go:embed pages/painter.js
var painter string

// TestPictures makes the pictures of docs/images anew, from real calls, with whatever fonts are there (fonts-nanum and fonts-noto-color-emoji on
// Debian): MADANG_PICTURES=$PWD/docs/images go test ./test -run TestPictures
func TestPictures(t *testing.T) {
	folder := os.Getenv("MADANG_PICTURES")
	if folder == "" {
		t.Skip("MADANG_PICTURES names no folder")
	}
	mina := map[string]any{"wall": []string{"#e9dcc3", "#d8c19d"}, "skin": []string{"#f3cdb0", "#dfb093"}, "hair": "#3a2a24", "shirt": "#1f6f5c", "long": true, "plant": true}
	jun := map[string]any{"wall": []string{"#c9d6d3", "#93aaa6"}, "skin": []string{"#e9bd97", "#cf9d77"}, "hair": "#211c1a", "shirt": "#c2603f", "glasses": true}
	node := serve(t, lab.NodeConfig{})
	chromium := browser.Start(t, browser.Chromium, browser.Options{})
	for _, words := range []struct {
		lang, file               string
		mina, jun, asks, answers string
	}{
		{"en", "call.png", "Mina", "Jun", "Tea at four?", "With pleasure. I bring the persimmons 🙂"},
		{"ko", "call.ko.png", "민아", "준", "네 시에 차 한잔할까요?", "좋아요. 감은 제가 가져갈게요 🙂"},
	} {
		open := func(name string, look map[string]any, view browser.View) *visitor {
			v := newVisitor(t, chromium, "", name)
			v.check(v.View(within(t, patience), view))
			v.check(v.Preload(within(t, patience), fmt.Sprintf("{ const look = %s;\n%s}", js(look), painter)))
			v.check(v.Navigate(within(t, patience), node.HTTP+"/c/tea-at-four?lang="+words.lang))
			v.enter()
			return v
		}
		save := func(v *visitor, file string) {
			v.await(`deepAll(".toast").length === 0 && deepAll("video").every((video) => video.videoWidth >= 960)`)
			picture, err := v.Screenshot(within(t, patience))
			v.check(err)
			if err := os.WriteFile(filepath.Join(folder, file), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		a := open(words.mina, mina, browser.View{Width: 1280, Height: 800})
		a.shows("alone")
		b := open(words.jun, jun, browser.View{Width: 390, Height: 844, Phone: true})
		a.sees(words.jun, "camera")
		b.sees(words.mina, "camera")
		save(b, "phone-"+words.file)
		a.click("chat-toggle")
		a.write("chat-input", words.asks+"\n")
		b.click("chat-toggle")
		b.write("chat-input", words.answers+"\n")
		a.reads("chat-log", words.answers)
		save(a, words.file)
		a.click("leave")
		b.press("Escape")
		b.click("leave")
		a.shows("ended")
	}
}
