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

func announceText(w io.Writer, ready server.Ready) {
	fmt.Fprintf(w, "\nMadang %s is ready.\n\n", ready.Version)
	fmt.Fprintf(w, "  Start a call          %s/\n", ready.Public)
	for _, url := range ready.Network {
		fmt.Fprintf(w, "  On your network       %s/\n", url)
	}
	fmt.Fprintf(w, "  In your own page      <script type=\"module\" src=\"%s/sdk/madang-call.js\"></script>\n", ready.Public)
	fmt.Fprintf(w, "                        <madang-call channel=\"demo\"></madang-call>\n")
	fmt.Fprintf(w, "  Documents             %s/docs/\n", ready.Public)
	fmt.Fprintf(w, "  Data                  %s\n", ready.Data)
	if ready.SelfSigned && len(ready.Network) > 0 {
		fmt.Fprintf(w, "\nOther devices need https:// for their camera. The certificate is of this node's own making: the browser warns once.\n")
	}
	fmt.Fprintln(w)
}
