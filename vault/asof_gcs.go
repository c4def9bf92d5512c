package vault

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// versioning implements versioned.
func (g *gcsObjects) versioning(ctx context.Context) (bool, error) {
	var b struct {
		Versioning struct {
			Enabled bool `json:"enabled"`
		} `json:"versioning"`
	}
	err := g.ask(ctx, http.MethodGet, g.base+"/storage/v1/b/"+url.PathEscape(g.bucket)+"?fields=versioning", &b)
	return b.Versioning.Enabled, err
}

// versions implements versioned.
func (g *gcsObjects) versions(ctx context.Context, prefix string, found func(version) error) error {
	q := url.Values{"prefix": {prefix}, "versions": {"true"}, "fields": {"items(name,size,generation,crc32c,timeCreated,timeDeleted),nextPageToken"}}
	for {
		var page struct {
			Items []struct {
				Name        string     `json:"name"`
				Size        string     `json:"size"`
				Generation  string     `json:"generation"`
				CRC32C      string     `json:"crc32c"`
				TimeCreated time.Time  `json:"timeCreated"`
				TimeDeleted *time.Time `json:"timeDeleted"`
			} `json:"items"`
			NextPageToken string `json:"nextPageToken"`
		}
		if err := g.ask(ctx, http.MethodGet, g.base+"/storage/v1/b/"+url.PathEscape(g.bucket)+"/o?"+q.Encode(), &page); err != nil {
			return err
		}
		for _, i := range page.Items {
			n, err := strconv.ParseInt(i.Size, 10, 64)
			if err != nil {
				return err
			}
			v := version{name: i.Name, id: i.Generation, sum: i.CRC32C, length: n, from: i.TimeCreated}
			if i.TimeDeleted != nil {
				v.until = *i.TimeDeleted
			}
			if err := found(v); err != nil {
				return err
			}
		}
		if page.NextPageToken == "" {
			return nil
		}
		q.Set("pageToken", page.NextPageToken)
	}
}

// readVersion implements versioned.
func (g *gcsObjects) readVersion(ctx context.Context, v version, offset, length int64) (body, error) {
	h := http.Header{}
	setRange(h, offset, length)
	resp, err := g.do(ctx, http.MethodGet, g.object(v.name)+"?alt=media&generation="+url.QueryEscape(v.id), nil, h)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// removeVersion implements versioned.
func (g *gcsObjects) removeVersion(ctx context.Context, v version) error {
	return g.ask(ctx, http.MethodDelete, g.object(v.name)+"?generation="+url.QueryEscape(v.id), nil)
}
