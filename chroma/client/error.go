package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Error is a server's refusal of a request.
type Error struct {
	Method, Path string // of the request
	Status       int    // of HTTP
	Name         string // Chroma's word for it, such as "NotFoundError"; "" if it gave none
	Message      string // Chroma's own words, one line
}

// Error returns the request, the status and Chroma's words.
func (e *Error) Error() string {
	words := e.Message
	if words == "" {
		words = or(e.Name, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s %s: %d: %s", e.Method, e.Path, e.Status, words)
}

// Status returns the HTTP status of the refusal that err is, 0 if it is none.
func Status(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// maxErrorBody bounds what is read of a refusal, in bytes.
const maxErrorBody = 64 << 10

// newError reads a refusal. Chroma 1.x says {"error":NAME,"message":TEXT};
// 0.5 and 0.6 the same or {"error":"NAME('TEXT')"}; FastAPI, under the Python
// servers, {"detail":…}; a proxy in front anything at all.
func newError(req *http.Request, resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what there is will do
	e := &Error{Method: req.Method, Path: req.URL.Path, Status: resp.StatusCode}
	var body struct {
		Error   any `json:"error"`
		Message any `json:"message"`
		Detail  any `json:"detail"`
	}
	if json.Unmarshal(b, &body) != nil {
		e.Message = oneLine(string(b))
		return e
	}
	name, _ := body.Error.(string)
	switch {
	case body.Message != nil:
		e.Name, e.Message = name, text(body.Message)
	case strings.HasSuffix(name, ")") && strings.Contains(name, "("):
		e.Name, _, _ = strings.Cut(name, "(")
		e.Message = oneLine(name)
	case body.Detail != nil:
		e.Name, e.Message = name, text(body.Detail)
	default:
		e.Name = name
	}
	return e
}

func text(v any) string {
	if s, ok := v.(string); ok {
		return oneLine(s)
	}
	b, _ := json.Marshal(v) // came from JSON
	return oneLine(string(b))
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 1000 {
		s = strings.ToValidUTF8(s[:1000], "") + "…"
	}
	return s
}
