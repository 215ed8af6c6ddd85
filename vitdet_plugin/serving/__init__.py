"""``vitdet serve``: a page and a JSON endpoint for one model.

Starlette and uvicorn (extra ``web``) are small, let the size of an upload be limited while it arrives, and keep it in
memory. Gradio, which is usual for pages of models, requires about fifty packages and writes uploads to a folder of
temporary files.
"""
