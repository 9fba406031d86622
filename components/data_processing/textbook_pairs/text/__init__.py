"""Text of a page: lines by OCR or from the PDF, joined into paragraphs and sentences."""
