// Package web serves what browsers load: the pages, the SDK, the <madang-call> element, the documents. The files are built by
// Vite (`make web`) into dist and embedded here; this package knows nothing of what they do.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"
)

//go:embed all:dist
var dist embed.FS

// Node is what a page must know of the node that serves it. It is public: the key is a browser key.
type Node struct {
	Key         string `json:"key"`         // browser key for the node's own pages
	Origin      string `json:"origin"`      // where the node says browsers reach it; empty: where the page came from
	Development bool   `json:"development"` // no public name; the sandbox key works
	UDP         int    `json:"udp"`         // port of STUN and TURN
	Version     string `json:"version"`
}

// Config says what to serve. The zero value serves the embedded files for an unnamed node.
type Config struct {
	Files fs.FS // default: the embedded build
	Node  Node
	// FrameAncestors are origins whose pages may show ours in a frame, beside our own.
	FrameAncestors []string
	Log            *slog.Logger // default: none
}

// A Handler serves files from memory, compressed once at the start. It is safe for concurrent use.
type Handler struct {
	files  map[string]*file // by URL path
	node   []byte
	policy string // Content-Security-Policy of pages
}

type file struct {
	contentType  string
	plain        []byte
	gzipped      []byte // nil if it does not pay
	etag         string
	cacheControl string
	anyOrigin    bool // pages of other sites load it
	html         bool
}

const placeholder = "<!-- madang-node -->"

// New reads and compresses all files. Without a build the pages answer with how to make one.
func New(config Config) (*Handler, error) {
	files := config.Files
	if files == nil {
		sub, err := fs.Sub(dist, "dist")
		if err != nil {
			return nil, err
		}
		files = sub
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	node, err := json.Marshal(config.Node) // escapes <, > and &: safe inside of a script element
	if err != nil {
		return nil, err
	}
	h := &Handler{files: map[string]*file{}, node: node, policy: contentSecurityPolicy + "; frame-ancestors " + strings.Join(append([]string{"'self'"}, config.FrameAncestors...), " ")}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		h.files["/"+name] = newFile(name, content, node)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read web assets: %w", err)
	}
	if h.files["/index.html"] == nil {
		config.Log.Warn("this program was built without its pages; `make build` builds both")
	}
	return h, nil
}

func newFile(name string, content, node []byte) *file {
	f := &file{contentType: contentType(name), cacheControl: "no-cache"}
	switch {
	case strings.HasPrefix(name, "assets/"):
		f.cacheControl = "public, max-age=31536000, immutable" // Vite puts a hash of the content into the name
	case strings.HasPrefix(name, "sdk/"):
		f.anyOrigin = true
	}
	if strings.HasSuffix(name, ".html") {
		f.html = true
		content = bytes.Replace(content, []byte(placeholder), fmt.Appendf(nil, `<script type="application/json" id="madang-node">%s</script>`, node), 1)
	}
	f.plain = content
	sum := sha256.Sum256(content)
	f.etag = `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	if compressible(f.contentType) {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
		w.Write(content)
		w.Close()
		if b.Len() < len(content) {
			f.gzipped = b.Bytes()
		}
	}
	return f
}

// contentType does not ask the machine's own table, which differs from machine to machine.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".json", ".map":
		return "application/json"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".ts", ".md", ".txt":
		return "text/plain; charset=utf-8"
	case ".webmanifest":
		return "application/manifest+json"
	case ".woff2":
		return "font/woff2"
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

func compressible(contentType string) bool {
	return strings.HasPrefix(contentType, "text/") || strings.HasPrefix(contentType, "application/json") ||
		strings.HasPrefix(contentType, "image/svg") || strings.HasPrefix(contentType, "application/manifest")
}

// Register adds the routes to mux.
func (h *Handler) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", h.page("index.html"))
	mux.HandleFunc("GET /c/{channel}", h.page("call.html"))
	mux.HandleFunc("GET /f/{$}", h.page("files.html"))
	mux.HandleFunc("GET /f/{id}", h.page("files.html"))
	mux.HandleFunc("GET /v1/node", h.serveNode)
	mux.HandleFunc("/", h.serveFile) // without a method: a pattern such as /v1/ would conflict
}

func (h *Handler) page(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := h.files["/"+name]
		if f == nil {
			http.Error(w, "This program was built without its pages. Build it with: make build", http.StatusNotImplemented)
			return
		}
		h.send(w, r, f)
	}
}

func (h *Handler) serveFile(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Only GET is possible here.", http.StatusMethodNotAllowed)
		return
	}
	name := r.URL.Path
	f := h.files[name]
	if m := playrtcVersion.FindStringSubmatch(name); f == nil && m != nil {
		f = h.files["/sdk/js/"+m[1]]
	}
	if f == nil && strings.HasSuffix(name, "/") {
		f = h.files[name+"index.html"]
	}
	if f == nil && h.files[name+"/index.html"] != nil {
		http.Redirect(w, r, path.Base(name)+"/", http.StatusMovedPermanently) // relative: a proxy may have put us below a path
		return
	}
	if f == nil {
		http.NotFound(w, r)
		return
	}
	h.send(w, r, f)
}

// playrtcVersion matches the addresses under which pages have pinned a version of PlayRTC's SDK. There is one, which is compatible with all.
var playrtcVersion = regexp.MustCompile(`^/sdk/js/[0-9]+(?:\.[0-9]+){0,3}/(playrtc[a-z_.-]*\.js)$`)

func (h *Handler) serveNode(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(h.node)
}

// contentSecurityPolicy lets pages load from this server alone, and connect to any, since a page may name another server.
const contentSecurityPolicy = "default-src 'self'; connect-src *; img-src 'self' data: blob:; media-src 'self' blob: mediastream:; " +
	"style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'"

func (h *Handler) send(w http.ResponseWriter, r *http.Request, f *file) {
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", f.cacheControl)
	header.Set("ETag", f.etag)
	if f.anyOrigin {
		header.Set("Access-Control-Allow-Origin", "*")
		header.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	if f.html {
		// No Permissions-Policy: without one our pages may use the camera, and in somebody else's frame they may if its allow attribute says so.
		header.Set("Content-Security-Policy", h.policy)
		header.Set("Referrer-Policy", "no-referrer") // the address of a call is its invitation
	}
	body := f.plain
	if f.gzipped != nil {
		header.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) && r.Header.Get("Range") == "" {
			header.Set("Content-Encoding", "gzip")
			header.Set("ETag", strings.TrimSuffix(f.etag, `"`)+`-gz"`)
			body = f.gzipped
		}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3) as far as gzip is concerned.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if coding = strings.TrimSpace(coding); coding == "gzip" || coding == "*" {
			weight = strings.ReplaceAll(weight, " ", "")
			return weight != "q=0" && weight != "q=0.0" && weight != "q=0.00" && weight != "q=0.000"
		}
	}
	return false
}
