"""INTERIM recursive-descent parser (the LALR one replaces it)."""
from __future__ import annotations
import re
from dataclasses import dataclass
from segdsl.diagnostics import Diagnostic, Span
from segdsl.syntax import tree as t

TOK = re.compile(r'''(?P<ws>[ \t]+)|(?P<comment>\#[^\n]*)|(?P<nl>\n)|(?P<size>\d+x\d+\b)|(?P<num>(?:\d+\.\d+|\d+)(?:[eE][-+]?\d+)?)|(?P<str>"(?:\\.|[^"\\\n])*")|(?P<name>[A-Za-z_]\w*)|(?P<op>->|\.\.|\*\*|//|==|!=|<=|>=|[-+*/<>=(){}\[\],.:])''')
KW = {"seg","import","extends","let","block","model","in","out","param","drop","each","as","if","then","else","for","from","and","or","not","true","false","none"}

@dataclass
class Token:
    kind: str; text: str; start: int; end: int; nl: bool = False

@dataclass
class Parsed:
    file: t.File; diagnostics: tuple; tokens: tuple

class Err(Exception):
    pass

def lex(text, name):
    toks=[]; pos=0; nl=False; doc=[]
    docs={}
    while pos<len(text):
        m=TOK.match(text,pos)
        if not m:
            raise Err(Diagnostic("bad-character",f"unexpected `{text[pos]}`","remove it",span=Span(name,pos,pos+1)))
        k=m.lastgroup
        if k=="nl": nl=True
        elif k=="comment":
            if m.group().startswith("##"): doc.append(m.group()[2:].strip())
        elif k!="ws":
            if doc: docs[len(toks)]="\n".join(doc); doc=[]
            toks.append(Token("kw" if k=="name" and m.group() in KW else k,m.group(),m.start(),m.end(),nl)); nl=False
        pos=m.end()
    toks.append(Token("eof","",len(text),len(text),True))
    if doc: docs[len(toks)-1]="\n".join(doc)
    return toks,docs

class P:
    def __init__(s,text,name):
        s.name=name; s.text=text; s.toks,s.docs=lex(text,name); s.i=0; s.depth=0
    def span(s,a,b=None):
        return Span(s.name,a,s.toks[s.i-1].end if b is None else b)
    @property
    def cur(s): return s.toks[s.i]
    def fail(s,want):
        c=s.cur
        raise Err(Diagnostic("syntax-error",f"found `{c.text or 'the end'}`, expected {want}","see the manual",span=Span(s.name,c.start,c.end)))
    def nl(s): return s.cur.nl and s.depth==0
    def at(s,*texts):
        c=s.cur
        return c.kind in("op","kw") and c.text in texts
    def cont(s,*texts):
        return s.at(*texts) and not s.nl()
    def eat(s,text):
        if not s.at(text): s.fail(f"`{text}`")
        s.i+=1; return s.toks[s.i-1]
    def ident(s,anykw=True):
        c=s.cur
        if c.kind=="name" or (anykw and c.kind=="kw"):
            s.i+=1; return t.Ident(c.text,Span(s.name,c.start,c.end))
        s.fail("a name")
    def file(s):
        version=None; doc=""
        if s.cur.text=="seg":
            s.i+=1; version=int(s.cur.text); s.i+=1
            if s.i in s.docs: doc=s.docs[s.i]
        body=[]
        while s.cur.kind!="eof": body.append(s.top())
        return t.File(s.name,version,doc,tuple(body),Span(s.name,0,len(s.text)))
    def path(s):
        p=[s.ident()]
        while s.at(".") : s.i+=1; p.append(s.ident())
        return tuple(p)
    def string(s):
        c=s.cur
        if c.kind!="str": s.fail("a string")
        s.i+=1; return t.Constant(eval(c.text),Span(s.name,c.start,c.end))
    def top(s,section=False):
        a=s.cur.start; start=s.i
        nxt=s.toks[s.i+1]
        if s.at("import"):
            s.i+=1; p=s.string(); al=None
            if s.cont("as"): s.i+=1; al=s.ident()
            return t.Import(p,al,s.span(a))
        if s.at("extends"):
            s.i+=1; p=s.string(); return t.Extends(p,s.span(a))
        if s.at("let"):
            s.i+=1; n=s.ident(); s.eat("="); return t.Let(n,s.expr(),s.span(a))
        if s.at("drop"):
            s.i+=1; return t.Drop(s.path(),s.span(a))
        if (s.at("block") or s.at("model")) and nxt.kind=="name":
            return s.block()
        p=s.path()
        if s.at("{"):
            s.i+=1; body=[]
            while not s.at("}"): body.append(s.top(True))
            s.eat("}"); return t.Section(p,tuple(body),s.span(a))
        s.eat("="); return t.Assign(p,s.expr(),s.span(a))
    def block(s):
        a=s.cur.start; doc=s.docs.get(s.i,""); kind=s.cur.text; s.i+=1; n=s.ident(); s.eat("("); s.depth+=1; ps=[]
        while not s.at(")"):
            b=s.cur.start; pn=s.ident(); s.eat(":"); ty=s.ident(); d=None
            if s.at("="): s.i+=1; d=s.expr()
            ps.append(t.Parameter(pn,ty,d,s.span(b)))
            if not s.at(")"): s.eat(",")
        s.depth-=1; s.eat(")"); s.eat("{"); body=[]
        while not s.at("}"): body.append(s.stmt())
        s.eat("}"); return t.Block(kind,n,tuple(ps),tuple(body),doc,s.span(a))
    def note(s):
        a=s.cur.start
        if s.cur.text=="list": s.i+=1; return t.ShapeNote(None,s.span(a))
        s.eat("["); s.depth+=1; d=[]
        while not s.at("]"):
            d.append(s.expr())
            if not s.at("]"): s.eat(",")
        s.depth-=1; s.eat("]"); return t.ShapeNote(tuple(d),s.span(a))
    def stmt(s):
        a=s.cur.start
        if s.at("in"):
            s.i+=1; n=s.ident(); nt=None
            if s.cont(":"): s.i+=1; nt=s.note()
            return t.In(n,nt,s.span(a))
        if s.at("let"):
            s.i+=1; n=s.ident(); s.eat("="); return t.Let(n,s.expr(),s.span(a))
        if s.at("param"):
            s.i+=1; n=s.ident(); s.eat(":"); nt=s.note(); s.eat("="); return t.Param(n,nt,s.expr(),s.span(a))
        if s.at("out"):
            s.i+=1; n=s.ident(); nt=None
            if s.at(":"): s.i+=1; nt=s.note()
            s.eat("="); return t.Out(n,nt,s.expr(),s.span(a))
        if s.cur.kind=="name" and s.toks[s.i+1].text=="=":
            n=s.ident(); s.i+=1; return t.Assign((n,),s.expr(),s.span(a))
        return t.Run(s.expr(),s.span(a))
    def expr(s):
        a=s.cur.start
        if s.at("if"):
            s.i+=1; c=s.orx(); s.eat("then"); x=s.expr(); s.eat("else"); y=s.expr(); return t.If(c,x,y,s.span(a))
        e=s.orx(); steps=[]
        while s.at("->"):
            s.i+=1; b=s.cur.start; each=False
            if s.at("each"): s.i+=1; each=True
            comp=s.postfix(); rep=None; nm=None; nt=None
            if s.cont("*"): s.i+=1; rep=s.unary()
            if s.cont("as"):
                s.i+=1; nm=s.ident()
                if s.cont(":"): s.i+=1; nt=s.note()
            steps.append(t.Step(comp,each,rep,nm,nt,s.span(b)))
        return t.Flow(e,tuple(steps),s.span(a)) if steps else e
    def binl(s,sub,ops):
        a=s.cur.start; l=sub()
        while s.cont(*ops):
            o=s.cur; s.i+=1; r=sub(); l=t.Binary(o.text,l,r,Span(s.name,o.start,o.end),s.span(a))
        return l
    def orx(s): return s.binl(s.andx,("or",))
    def andx(s): return s.binl(s.notx,("and",))
    def notx(s):
        a=s.cur.start
        if s.at("not"): s.i+=1; return t.Unary("not",s.notx(),s.span(a))
        return s.binl(s.rng,("==","!=","<","<=",">",">="))
    def rng(s):
        a=s.cur.start; l=s.add()
        if s.cont(".."): s.i+=1; return t.RangeExpr(l,s.add(),s.span(a))
        return l
    def add(s): return s.binl(s.mul,("+","-"))
    def mul(s): return s.binl(s.unary,("*","/","//"))
    def unary(s):
        a=s.cur.start
        if s.at("-","+"): o=s.cur.text; s.i+=1; return t.Unary(o,s.unary(),s.span(a))
        l=s.postfix()
        if s.cont("**"):
            o=s.cur; s.i+=1; return t.Binary("**",l,s.unary(),Span(s.name,o.start,o.end),s.span(a))
        return l
    def postfix(s):
        a=s.cur.start; e=s.atom()
        while True:
            if s.cont("."): s.i+=1; n=s.ident(); e=t.Attribute(e,n,s.span(a))
            elif s.cont("["):
                s.i+=1; s.depth+=1; x=s.expr(); s.depth-=1; s.eat("]"); e=t.Index(e,x,s.span(a))
            elif s.cont("("):
                s.i+=1; s.depth+=1; args=[]
                while not s.at(")"):
                    b=s.cur.start; n=None
                    if s.cur.kind in("name","kw") and s.toks[s.i+1].text=="=": n=s.ident(); s.i+=1
                    v=s.expr(); args.append(t.Argument(n,v,s.span(b)))
                    if not s.at(")"): s.eat(",")
                s.depth-=1; s.eat(")"); e=t.Call(e,tuple(args),s.span(a))
            else: return e
    def atom(s):
        c=s.cur; sp=Span(s.name,c.start,c.end)
        if c.kind=="size": s.i+=1; h,w=c.text.split("x"); return t.SizeLiteral(int(h),int(w),sp)
        if c.kind=="num":
            s.i+=1; v=float(c.text) if any(x in c.text for x in ".eE") else int(c.text)
            n=s.cur
            if n.kind=="name" and not s.nl(): s.i+=1; return t.QuantityLiteral(v,t.Ident(n.text,Span(s.name,n.start,n.end)),s.span(c.start))
            return t.Constant(v,sp)
        if c.kind=="str": return s.string()
        if c.text in("true","false","none") and c.kind=="kw": s.i+=1; return t.Constant({"true":True,"false":False,"none":None}[c.text],sp)
        if c.kind=="name": s.i+=1; return t.Name(c.text,sp)
        if s.at("("):
            s.i+=1; s.depth+=1; e=s.expr(); s.depth-=1; s.eat(")"); return e
        if s.at("["):
            s.i+=1; s.depth+=1
            if s.at("]"): s.depth-=1; s.i+=1; return t.ListExpr((),s.span(c.start))
            e=s.expr()
            if s.at("for"):
                s.i+=1; ts=[s.ident()]
                while s.at(","): s.i+=1; ts.append(s.ident())
                s.eat("in"); src=s.expr(); ca=st=None
                if s.at("from"): s.i+=1; ca=s.ident(); s.eat("="); st=s.expr()
                s.depth-=1; s.eat("]"); return t.Comprehension(e,tuple(ts),src,ca,st,s.span(c.start))
            items=[e]
            while s.at(","):
                s.i+=1
                if s.at("]"): break
                items.append(s.expr())
            s.depth-=1; s.eat("]"); return t.ListExpr(tuple(items),s.span(c.start))
        s.fail("an expression")

def parse(text,name):
    try:
        p=P(text,name); f=p.file(); return Parsed(f,(),tuple(p.toks))
    except Err as e:
        return Parsed(t.File(name,None,"",(),Span(name,0,len(text))),(e.args[0],),())
def parse_override(text,name):
    try:
        p=P(text,name); st=p.top(); return st,()
    except Err as e: return None,(e.args[0],)
