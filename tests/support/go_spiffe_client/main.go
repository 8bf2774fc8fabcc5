package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func fail(what string, err error) {
	fmt.Println("FAILED", what+":", err)
	os.Exit(1)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client, err := workloadapi.New(ctx)
	if err != nil {
		fail("client", err)
	}
	defer client.Close()
	x, err := client.FetchX509Context(ctx)
	if err != nil {
		fail("FetchX509SVID", err)
	}
	svid := x.DefaultSVID()
	fmt.Println("x509", svid.ID, "until", svid.Certificates[0].NotAfter.UTC().Format(time.RFC3339))
	bundles, err := client.FetchX509Bundles(ctx)
	if err != nil {
		fail("FetchX509Bundles", err)
	}
	b, _ := bundles.Get(svid.ID.TrustDomain())
	fmt.Println("x509 bundle", b.TrustDomain(), "authorities", len(b.X509Authorities()))
	t, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "memory"})
	if err != nil {
		fail("FetchJWTSVID", err)
	}
	fmt.Println("jwt", t.ID, "audience", t.Audience, "for", time.Until(t.Expiry).Round(time.Second))
	v, err := client.ValidateJWTSVID(ctx, t.Marshal(), "memory")
	if err != nil {
		fail("ValidateJWTSVID", err)
	}
	fmt.Println("validated by the Workload API", v.ID)
	jb, err := client.FetchJWTBundles(ctx)
	if err != nil {
		fail("FetchJWTBundles", err)
	}
	p, err := jwtsvid.ParseAndValidate(t.Marshal(), jb, []string{"memory"})
	if err != nil {
		fail("ParseAndValidate", err)
	}
	fmt.Println("validated here", p.ID)
	_, err = client.ValidateJWTSVID(ctx, t.Marshal(), "other")
	fmt.Println("another audience:", err)
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		fail("NewX509Source", err)
	}
	defer source.Close()
	me := spiffeid.RequireFromString(svid.ID.String())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail("listen", err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := tls.Server(c, tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(me)))
		fmt.Fprint(s, "mutual TLS")
		s.Close()
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(me)))
	if err != nil {
		fail("mTLS", err)
	}
	said, _ := io.ReadAll(c)
	fmt.Println(string(said), "with", svid.ID)
}
