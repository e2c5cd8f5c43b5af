package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/madang-rtc/madang/internal/bench/measure"
	benchtransfer "github.com/madang-rtc/madang/internal/bench/transfer"
)

// benchTransferCmd measures files from end to end on this machine.
type benchTransferCmd struct {
	Server string   `help:"Base URL of a node that runs already, such as http://127.0.0.1:8080." placeholder:"URL"`
	Key    string   `help:"Browser key for --server." placeholder:"KEY"`
	Lanes  []string `help:"Kinds of connections." default:"auto,quic,webrtc" enum:"auto,quic,webrtc"`
	MiB    int64    `name:"mib" help:"Size of the file." default:"256"`
	Rounds int      `help:"How many rounds; the medians count." default:"3"`
	Crowd  int      `name:"receivers" help:"So many receivers of one link at once, over the first kind of connections, and how many copies the sender sends." placeholder:"N"`
	Depot  bool     `help:"Measure what waits on the server: up and down again, over HTTPS, beside one plain request with the same bytes."`
	Dir    string   `help:"Folder for the files. Default: the machine's temporary one." placeholder:"DIR"`
	JSON   bool     `name:"json" help:"Print JSON."`
}

func (c *benchTransferCmd) Run(ctx context.Context, s streams) error {
	var server measure.Process // 0: one that we cannot look at
	if c.Server == "" {
		node, err := measure.StartNode(ctx)
		if err != nil {
			return err
		}
		defer node.Stop()
		c.Server, server = node.HTTP, node.Process
		if c.Depot {
			c.Server = node.HTTPS
			if err := node.Administer(ctx, "project", "set", "home", "--depot-bytes", strconv.FormatInt(c.MiB<<21, 10)); err != nil {
				return err
			}
		}
	}
	config := benchtransfer.Config{
		Server: strings.TrimRight(c.Server, "/"), Key: c.Key, Lanes: c.Lanes, Bytes: c.MiB << 20, Rounds: c.Rounds, Dir: c.Dir,
	}
	if c.Depot {
		r, err := benchtransfer.RunDepot(ctx, config, server)
		if err != nil {
			return err
		}
		return benchFlags{JSON: c.JSON}.print(s.out, r, func() {
			fmt.Fprintf(s.out, "%s; sealed, and on the server's disk\n", bytesText(r.Bytes))
			fmt.Fprintf(s.out, "  up   %7.1f MiB/s  server: %.2f CPU seconds a GiB, at most %.0f MiB; a plain upload: %.1f MiB/s\n", r.Upload.PerSecond, r.Upload.CPU, r.Upload.RSS, r.PlainUpload)
			fmt.Fprintf(s.out, "  down %7.1f MiB/s  server: %.2f CPU seconds a GiB, at most %.0f MiB; a plain download: %.1f MiB/s\n", r.Download.PerSecond, r.Download.CPU, r.Download.RSS, r.PlainDownload)
		})
	}
	if c.Crowd > 0 {
		r, err := benchtransfer.RunCrowd(ctx, config, c.Crowd)
		if err != nil {
			return err
		}
		return benchFlags{JSON: c.JSON}.print(s.out, r, func() {
			fmt.Fprintf(s.out, "%s to %d receivers (%s): %.1f s, %.1f MiB/s together; the sender sent %.2f copies\n", bytesText(r.Bytes), r.Receivers, r.Lanes, r.Seconds, r.PerSecond, r.Copies)
		})
	}
	r, err := benchtransfer.Run(ctx, config)
	if err != nil {
		return err
	}
	return benchFlags{JSON: c.JSON}.print(s.out, r, func() {
		fmt.Fprintf(s.out, "%s, medians of %d rounds; files are hashed, verified and on the disk\n", bytesText(r.Bytes), c.Rounds)
		fmt.Fprintf(s.out, "  %-14s %7.1f MiB/s  zeros, neither hashed nor written\n", r.Raw.Lanes, r.Raw.Median)
		for _, k := range r.Kinds {
			fmt.Fprintf(s.out, "  %-14s %7.1f MiB/s  %4.2f  %s\n", k.Lanes, k.Median, k.Ratio, k.Path)
		}
	})
}
