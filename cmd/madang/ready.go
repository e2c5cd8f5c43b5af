package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/madang-rtc/madang/internal/server"
)

// announceJSON writes one line, for programs that wait for the node.
func announceJSON(w io.Writer, ready server.Ready) {
	json.NewEncoder(w).Encode(struct {
		Msg string `json:"msg"`
		server.Ready
	}{"ready", ready})
}

func announceText(w io.Writer, ready server.Ready, l language) {
	line := func(en, ko, text string) {
		// Aligned by hand: a Korean letter is as wide as two others.
		name := l.pick(en, ko)
		width := 0
		for _, r := range name {
			width++
			if r >= 0x1100 {
				width++
			}
		}
		fmt.Fprintf(w, "  %s%*s%s\n", name, 22-width, "", text)
	}
	fmt.Fprintf(w, "\n"+l.pick("Madang %s is ready.", "Madang %s 서버가 준비되었어요.")+"\n\n", ready.Version)
	line("Start a call", "통화 시작", ready.Public+"/")
	for _, url := range ready.Network {
		line("On your network", "같은 네트워크에서", url+"/")
	}
	line("In your own page", "내 페이지에 넣기", fmt.Sprintf(`<script type="module" src="%s/sdk/madang-call.js"></script>`, ready.Public))
	line("", "", `<madang-call channel="demo"></madang-call>`)
	line("Documents", "문서", ready.Public+"/docs/")
	line("Data", "데이터", ready.Data)
	if ready.SelfSigned && len(ready.Network) > 0 {
		fmt.Fprintf(w, "\n%s\n", l.pick("Other devices need https:// for their camera. The certificate is of this node's own making: the browser warns once.",
			"다른 기기에서 카메라를 쓰려면 https://로 열어야 해요. 인증서는 이 서버가 직접 만든 것이라 브라우저가 한 번 경고해요."))
	}
	fmt.Fprintln(w)
}
