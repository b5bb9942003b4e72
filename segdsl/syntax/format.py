def format_text(text, name="<text>"):
    return text
